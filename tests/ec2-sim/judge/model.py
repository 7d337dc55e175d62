"""Judges requests by botocore's model of AWS: names, words, types, required members, and the signature.

AWS refuses a parameter whose name it does not know. Imitations of AWS take it and do something else.
"""

import base64
import json
import re
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.model import ServiceModel

# What a service is called in a signature, where its model has another name.
MODELS = {"monitoring": "cloudwatch", "elasticloadbalancing": "elbv2", "servicequotas": "service-quotas"}

SCOPE = re.compile(r"Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, *SignedHeaders=([^,]+), *Signature=(\w+)")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


class Request:
    """A request as it came over the wire."""

    def __init__(self, headers, body):
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body
        scope = SCOPE.search(self.headers.get("authorization", ""))
        if not scope:
            raise ValueError("it is not signed")
        self.key, self.date, self.region, self.service, signed, self.signature = scope.groups()
        self.signed = signed.split(";")
        self.form = urllib.parse.parse_qsl(body.decode(), keep_blank_values=True)
        target = self.headers.get("x-amz-target")
        self.operation = target.split(".")[-1] if target else dict(self.form).get("Action", "")


class Judge:
    """Collects what is wrong with requests."""

    def __init__(self, key, secret):
        self.credentials = Credentials(key, secret)
        self.models = {}
        self.violations = []
        self.operations = []

    def look(self, request, body):
        """Judges a request. `body` is what its parameters are taken from, and the signature is that of the request."""
        self.operations.append(request.operation)
        found = list(self.signature(request))
        model = self.model(request.service)
        target = request.headers.get("x-amz-target")
        if request.operation not in model.operation_names:
            found.append("there is no such operation")
        else:
            shape = model.operation_model(request.operation).input_shape
            if target:
                found += json_headers(request, model.metadata)
                found += json_value(json.loads(body), shape, "")
            else:
                pairs = urllib.parse.parse_qsl(body.decode(), keep_blank_values=True)
                found += form(pairs, shape, model.protocol, request.operation, model.api_version)
        self.violations += [f"{request.service} {request.operation}: {it}" for it in found]

    def model(self, service):
        """botocore's model of a service."""
        if service not in self.models:
            name = MODELS.get(service, service)
            self.models[service] = ServiceModel(Loader().load_service_model(name, "service-2"), name)
        return self.models[service]

    def signature(self, request):
        """What is wrong with a signature, by botocore's own."""
        headers = {name: request.headers.get(name, "") for name in request.signed}
        again = AWSRequest("POST", f"http://{request.headers['host']}/", headers=headers, data=request.body)
        again.context["timestamp"] = request.headers.get("x-amz-date", "")
        signer = SigV4Auth(self.credentials, request.service, request.region)
        text = signer.string_to_sign(again, signer.canonical_request(again))
        if signer.signature(text, again) != request.signature:
            yield "the signature is another one by botocore"
        for name in ("host", "x-amz-date"):
            if name not in request.signed:
                yield f"{name} is not signed"


def form(pairs, shape, protocol, operation, version):
    """What is wrong with the parameters of a form."""
    fixed = {"Action": operation, "Version": version}
    tree, seen = {}, set()
    for name, value in pairs:
        if name in seen:
            yield f"{name} is there twice"
        seen.add(name)
        if name in fixed:
            if value != fixed[name]:
                yield f"{name} is {value}, not {fixed[name]}"
            continue
        node = tree
        *path, last = name.split(".")
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                yield f"{name} is below a value"
                node = {}
        node[last] = value
    for name in fixed:
        if name not in seen:
            yield f"{name} is missing"
    if shape is not None:
        yield from form_value(tree, shape, protocol, "")
    elif tree:
        yield f"takes no parameters, and has {', '.join(tree)}"


def form_name(name, member, protocol):
    """The name of a member on the wire."""
    own = member.serialization
    if protocol != "ec2":
        return own.get("name", name)
    if "queryName" in own:
        return own["queryName"]
    return own["name"][0].upper() + own["name"][1:] if "name" in own else name


def form_value(node, shape, protocol, path):
    if shape.type_name == "structure":
        if not isinstance(node, dict):
            yield f"{path} has members, and is {node!r}"
            return
        members = {form_name(name, member, protocol): member for name, member in shape.members.items()}
        for name, value in node.items():
            if name in members:
                yield from form_value(value, members[name], protocol, below(path, name))
            else:
                yield f"unknown name {below(path, name)}"
        for name in shape.required_members:
            if form_name(name, shape.members[name], protocol) not in node:
                yield f"{below(path, form_name(name, shape.members[name], protocol))} is missing"
    elif shape.type_name == "list":
        if protocol != "ec2" and not shape.serialization.get("flattened"):
            word = shape.member.serialization.get("name", "member")
            if not isinstance(node, dict) or set(node) != {word}:
                yield f"{path} is a list, and has no .{word}"
                return
            node, path = node[word], below(path, word)
        if not isinstance(node, dict) or sorted(node) != sorted(str(n + 1) for n in range(len(node))):
            yield f"{path} is a list, and is not numbered from 1"
            return
        yield from bounds(len(node), shape, path)
        for number, value in node.items():
            yield from form_value(value, shape.member, protocol, below(path, number))
    elif isinstance(node, dict):
        yield f"{path} is a {shape.type_name}, and has {', '.join(node)}"
    else:
        yield from text(node, shape, path)


def text(value, shape, path):
    """What is wrong with a value that is written as text."""
    kind = shape.type_name
    if kind == "boolean" and value not in ("true", "false"):
        yield f"{path} is no boolean: {value!r}"
    elif kind in ("integer", "long"):
        if not re.fullmatch(r"-?\d+", value):
            yield f"{path} is no integer: {value!r}"
        else:
            yield from bounds(int(value), shape, path)
    elif kind in ("float", "double") and not re.fullmatch(r"-?\d+(\.\d+)?", value):
        yield f"{path} is no number: {value!r}"
    elif kind == "timestamp" and not TIME.fullmatch(value):
        yield f"{path} is no time: {value!r}"
    elif kind == "blob":
        try:
            base64.b64decode(value, validate=True)
        except ValueError:
            yield f"{path} is no base64"
    elif kind == "string":
        yield from word(value, shape, path)


def word(value, shape, path):
    if getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path} is none of the words of {shape.name}: {value!r}"
    yield from bounds(len(value), shape, path)


def bounds(value, shape, path):
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and value < least) or (most is not None and value > most):
        yield f"{path} is not within {least} and {most}: {value}"


def json_headers(request, metadata):
    """What is wrong with the headers by which a JSON service knows what is asked."""
    wanted = f"{metadata.get('targetPrefix')}.{request.operation}"
    if request.headers["x-amz-target"] != wanted:
        yield f"x-amz-target is {request.headers['x-amz-target']}, not {wanted}"
    wanted = f"application/x-amz-json-{metadata.get('jsonVersion')}"
    if request.headers.get("content-type") != wanted:
        yield f"content-type is {request.headers.get('content-type')}, not {wanted}"
    if "x-amz-target" not in request.signed:
        yield "x-amz-target is not signed"


JSON_KINDS = {
    "structure": dict,
    "map": dict,
    "list": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "double": (int, float),
    "float": (int, float),
    "timestamp": (int, float),
}


def json_value(value, shape, path):
    """What is wrong with a value of a JSON service."""
    kind = shape.type_name
    if not isinstance(value, JSON_KINDS.get(kind, object)) or isinstance(value, bool) != (kind == "boolean"):
        yield f"{path or 'the body'} is no {kind}"
    elif kind == "structure":
        members = {member.serialization.get("name", name): member for name, member in shape.members.items()}
        for name, inner in value.items():
            if name in members:
                yield from json_value(inner, members[name], below(path, name))
            else:
                yield f"unknown name {below(path, name)}"
        for name in shape.required_members:
            if shape.members[name].serialization.get("name", name) not in value:
                yield f"{below(path, name)} is missing"
    elif kind == "list":
        yield from bounds(len(value), shape, path)
        for number, inner in enumerate(value):
            yield from json_value(inner, shape.member, below(path, str(number)))
    elif kind == "string":
        yield from word(value, shape, path)
    elif kind in ("integer", "long"):
        yield from bounds(value, shape, path)


def below(path, name):
    return f"{path}.{name}" if path else name


# Each is a mistake that was made once, or is easily made.
MISTAKES = (
    ("ec2", "RunInstances", "MinCount=1", "MaxCount is missing"),
    ("ec2", "RunInstances", "MinCount=1&MaxCount=1&InstanceMarketOption.MarketType=spot", "unknown name"),
    ("ec2", "RunInstances", "MinCount=1&MaxCount=1&SecurityGroupIds.1=sg-1", "unknown name"),
    ("ec2", "RunInstances", "MinCount=1&MaxCount=one", "no integer"),
    ("ec2", "RunInstances", "MinCount=1&MaxCount=1&EbsOptimized=True", "no boolean"),
    ("ec2", "RunInstances", "MinCount=1&MaxCount=1&TagSpecification.1.ResourceType=instances", "none of the words"),
    ("ec2", "RunInstances", "MinCount=1&MaxCount=1&SecurityGroupId.0=sg-1", "not numbered from 1"),
    ("ec2", "RunInstances", "MinCount=1&MaxCount=1&SecurityGroupId.member.1=sg-1", "not numbered from 1"),
    ("ec2", "DescribeInstances", "MaxResults=5&MaxResults=6", "twice"),
    ("ec2", "DescribeSpotPriceHistory", "StartTime=2026-11-28", "no time"),
    ("sts", "GetCallerIdentity", "Account=111122223333", "unknown name"),
    ("elbv2", "RegisterTargets", "TargetGroupArn=a&Targets.1.Id=i-1", "no .member"),
)

METRIC = {"Namespace": "AWS/EC2", "MetricName": "CPUUtilization", "Dimensions": [{"Name": "InstanceId", "Value": "i-1"}]}
QUERY = {"Id": "cpu", "MetricStat": {"Metric": METRIC, "Period": 300, "Stat": "Average"}}
TIMES = {"StartTime": 1795852800, "EndTime": 1795939200}
JSON_MISTAKES = (
    ("cloudwatch", "GetMetricData", {"MetricDataQueries": [QUERY], **TIMES}, None),
    ("cloudwatch", "GetMetricData", {"MetricDataQuery": [QUERY], **TIMES}, "unknown name"),
    ("cloudwatch", "GetMetricData", {"MetricDataQueries": [QUERY], "StartTime": 1795852800}, "EndTime is missing"),
    ("cloudwatch", "GetMetricData", {"MetricDataQueries": [{**QUERY, "Id": ""}], **TIMES}, "not within"),
    ("cloudwatch", "GetMetricData", {"MetricDataQueries": QUERY, **TIMES}, "no list"),
    ("cloudwatch", "GetMetricData", {"MetricDataQueries": [], "StartTime": "2026-11-28", "EndTime": 1}, "no timestamp"),
    ("cloudwatch", "GetMetricData", {"MetricDataQueries": [], **TIMES, "MaxDatapoints": True}, "no integer"),
    ("cloudwatch", "GetMetricData", {"MetricDataQueries": [], **TIMES, "ScanBy": "Ascending"}, "none of the words"),
    ("service-quotas", "GetServiceQuota", {"ServiceCode": "ec2", "QuotaCode": "L-3819A6DF"}, None),
    ("service-quotas", "GetServiceQuota", {"ServiceCode": "ec2"}, "QuotaCode is missing"),
)


def self_test():
    """The judge has to find each of these, and nothing in what is right."""
    for service, operation, body, wanted in JSON_MISTAKES:
        found = list(json_value(body, Judge("", "").model(service).operation_model(operation).input_shape, ""))
        is_right = wanted in found[0] if wanted and found else not wanted and not found
        assert is_right, f"the judge says of {body}: {found}, not {wanted}"
    for service, operation, parameters, wanted in (
        *MISTAKES,
        ("ec2", "RunInstances", "MinCount=1&MaxCount=1&SecurityGroupId.1=sg-1", None),
        ("elbv2", "RegisterTargets", "TargetGroupArn=a&Targets.member.1.Id=i-1", None),
    ):
        model = Judge("", "").model(service)
        body = f"Action={operation}&Version={model.api_version}&{parameters}"
        pairs = urllib.parse.parse_qsl(body)
        found = list(form(pairs, model.operation_model(operation).input_shape, model.protocol, operation, model.api_version))
        is_right = wanted in found[0] if wanted and found else not wanted and not found
        assert is_right, f"the judge says of {parameters}: {found}, not {wanted}"
