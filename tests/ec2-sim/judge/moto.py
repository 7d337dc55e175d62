"""respot's real program against moto, through a proxy that judges each request by botocore's model (see model.py).

Run it by tests/ec2-sim/judge/moto, which obtains moto and boto3. A story is a function `story_*`: it has a process, a moto and a
world of its own, beside the others, and fails with an AssertionError.
"""

import argparse
import base64
import concurrent.futures
import contextlib
import datetime
import http.client
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import xml.etree.ElementTree as ET
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCOUNT, REGION = "111122223333", "eu-west-1"
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
# Nothing here goes to AWS, or to a proxy, whatever the environment says.
for variable in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[variable]
os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, NO_PROXY="127.0.0.1")
# moto reads it when it is loaded. It comes before this folder, where moto is the name of this file.
os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT
sys.path.sort(key=lambda folder: folder == os.path.dirname(os.path.abspath(__file__)))

import boto3  # noqa: E402
from model import Judge, Request, self_test  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

EC2 = "http://ec2.amazonaws.com/doc/2016-11-15"
ET.register_namespace("", EC2)

WRITES = ("Run", "Terminate", "Stop", "Start", "Create", "Delete", "Cancel", "Modify", "Register", "Deregister", "Put")

# With --break: a name that is changed on its way, in each story.
BREAKS = {
    "story_analyzed": (b'"MetricDataQueries"', b'"MetricDataQuery"'),
    "story_brought_back": (b"InstanceMarketOptions.MarketType", b"InstanceMarketOption.MarketType"),
    "story_rolled_out": (b"NetworkInterface.1.SubnetId", b"NetworkInterface.1.Subnet"),
}

# What an hour costs on demand: moto has no price list.
PRICES = {"g5.xlarge": Decimal("1.006"), "g5.2xlarge": Decimal("1.212")}


class Proxy(ThreadingHTTPServer):
    """In front of moto: judges what comes, and tells one lie. `breaks` is what is replaced in what comes, and by what."""

    daemon_threads = True

    def __init__(self, moto, breaks):
        super().__init__(("127.0.0.1", 0), Handler)
        self.moto = moto
        self.breaks = breaks
        self.judge = Judge(KEY, SECRET)
        # Terminated instances that are to look as if AWS had taken them, which moto cannot do.
        self.reclaimed = set()
        self.requests = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def writes(self):
        """Operations that change something, in order."""
        return [it.operation for it in self.requests if it.operation.startswith(WRITES)]

    def writes_about(self, identity):
        """Those of them that name an instance."""
        return [it.operation for it in self.requests if it.operation.startswith(WRITES) and identity in dict(it.form).values()]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            request = Request(self.headers, body)
        except ValueError as error:
            self.server.judge.violations.append(f"{self.path}: {error}")
            self.send_error(400)
            return
        if self.server.breaks:
            body = body.replace(*self.server.breaks)
        with self.server.lock:
            self.server.requests.append(request)
            self.server.judge.look(request, body)
        line = http.client.HTTPConnection(*self.server.moto, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
        line.request("POST", self.path, body, headers)
        answer = line.getresponse()
        answered = answer.read()
        if request.operation == "DescribeInstances" and answer.status == 200:
            answered = lied(answered, self.server.reclaimed)
        with contextlib.suppress(ConnectionError):
            self.reply(answer, answered)

    def reply(self, answer, answered):
        self.send_response(answer.status)
        for name in ("content-type", "x-amzn-requestid", "x-amzn-errortype"):
            if answer.getheader(name):
                self.send_header(name, answer.getheader(name))
        self.send_header("content-length", str(len(answered)))
        self.end_headers()
        self.wfile.write(answered)

    def log_message(self, *_):
        """Nothing: what matters is in the judge."""


def lied(answer, reclaimed):
    """The answer, with AWS as the one who ended these instances."""
    root = ET.fromstring(answer)
    for row in root.iter(f"{{{EC2}}}item"):
        identity = row.find(f"{{{EC2}}}instanceId")
        if identity is None or identity.text not in reclaimed or row.find(f"{{{EC2}}}instanceState") is None:
            continue
        reason = "Server.SpotInstanceTermination"
        for path, text in (("stateReason/code", reason), ("stateReason/message", reason), ("instanceLifecycle", "spot")):
            node = row
            for name in path.split("/"):
                inner = node.find(f"{{{EC2}}}{name}")
                node = ET.SubElement(node, f"{{{EC2}}}{name}") if inner is None else inner
            node.text = text
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


class World:
    """moto with an account, and respot in front of it."""

    def __init__(self, program, folder, moto, breaks):
        self.program, self.folder = os.path.abspath(program), folder
        self.proxy = Proxy(moto, breaks)
        self.moto = f"http://{moto[0]}:{moto[1]}"
        self.ec2 = self.client("ec2")

    def client(self, service):
        """A client that goes to moto directly, and is not judged."""
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        return boto3.client(service, region_name=REGION, endpoint_url=self.moto, **keys)

    def respot(self, *words, **more):
        """Calls the program with more settings, and returns its JSON. Once a request is one that AWS refuses, it is ended."""
        settings = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.proxy.url(),
            "HOME": self.folder,
            "PATH": os.environ.get("PATH", ""),
            "REDIS_URL": f"sqlite:{self.folder}/state.db",
            "RESPOT_EC2_ACCOUNT": ACCOUNT,
            "RESPOT_EC2_REGIONS": REGION,
            "RESPOT_PROVIDER": "ec2",
            **more,
        }
        call, until = [self.program, *words, "-o", "json"], time.monotonic() + 300
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            with subprocess.Popen(call, env=settings, cwd=self.folder, stdout=out, stderr=err) as running:
                while running.poll() is None and not self.proxy.judge.violations and time.monotonic() < until:
                    time.sleep(0.02)
                is_ended = running.poll() is None
                running.kill()
            said = [(it.seek(0), it.read())[1] for it in (out, err)]
        why = "since AWS would refuse a request" if self.proxy.judge.violations else "since it took too long"
        assert not is_ended, f"respot {' '.join(words)} was ended, {why}:\n{''.join(said)}"
        same(running.returncode, 0, f"exit code of respot {' '.join(words)}:\n{''.join(said)}")
        assert SECRET not in "".join(said), "the secret key was printed"
        return json.loads(said[0], parse_float=Decimal)

    def rows(self, *filters):
        """Instances by filters."""
        found = self.ec2.describe_instances(Filters=[{"Name": name, "Values": [value]} for name, value in filters])
        return [row for reservation in found["Reservations"] for row in reservation["Instances"]]

    def row(self, identity):
        return self.rows(("instance-id", identity))[0]

    def user_data(self, identity):
        """User data, in base64."""
        return self.ec2.describe_instance_attribute(InstanceId=identity, Attribute="userData")["UserData"].get("Value")

    def volumes(self, row):
        """Device, size, type, IOPS and throughput of each volume, and whether it goes with the instance."""
        found = []
        for device in row["BlockDeviceMappings"]:
            volume = self.ec2.describe_volumes(VolumeIds=[device["Ebs"]["VolumeId"]])["Volumes"][0]
            facts = [volume.get(name) for name in ("Size", "VolumeType", "Iops", "Throughput")]
            found.append((device["DeviceName"], *facts, device["Ebs"]["DeleteOnTermination"]))
        return sorted(found, key=str)

    def reclaim(self, identity):
        """AWS takes an instance, not in the second of its launch: that would be no end of this life."""
        launched = self.row(identity)["LaunchTime"].timestamp()
        time.sleep(max(0.0, launched + 1.1 - time.time()))
        self.ec2.terminate_instances(InstanceIds=[identity])
        self.proxy.reclaimed.add(identity)


def same(got, wanted, what):
    assert got == wanted, f"{what}: {got!r} instead of {wanted!r}"


def tags(row):
    return {tag["Key"]: tag["Value"] for tag in row.get("Tags", [])}


def told(rows):
    """What may not change of instances that nobody acts on."""
    facts = ("InstanceId", "State", "Tags", "LaunchTime", "SecurityGroups", "SubnetId")
    return [{name: row.get(name) for name in facts} for row in rows]


def launch(world, name, data, managed=True, spot=True, **more):
    """An instance with all that a replacement has to have as well."""
    own = [{"Key": "Name", "Value": name}, {"Key": "team", "Value": "vision & sound"}]
    if managed:
        own.append({"Key": "respot", "Value": "managed"})
    if spot:
        more["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}
    answer = world.ec2.run_instances(
        MinCount=1,
        MaxCount=1,
        UserData=data,
        TagSpecifications=[{"ResourceType": "instance", "Tags": own}],
        **more,
    )
    return answer["Instances"][0]["InstanceId"]


def fleet(world, kinds=("g5.xlarge", "g5.xlarge"), spot=True):
    """Two instances with the tag that opts in, and one without, which is like the first one."""
    ec2 = world.ec2
    images = ec2.describe_images(Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"]
    image = next(it for it in images if it["RootDeviceType"] == "ebs" and it["RootDeviceName"] == "/dev/xvda")
    subnets = sorted(ec2.describe_subnets()["Subnets"], key=lambda it: it["AvailabilityZone"])
    vpc = subnets[0]["VpcId"]
    groups = [ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"] for name in ("ssh", "web")]
    ec2.create_key_pair(KeyName="ops")
    profile = world.client("iam").create_instance_profile(InstanceProfileName="worker")["InstanceProfile"]["Arn"]
    disk = {"VolumeType": "gp3", "DeleteOnTermination": True}
    common = {
        "ImageId": image["ImageId"],
        "KeyName": "ops",
        "IamInstanceProfile": {"Arn": profile},
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "Monitoring": {"Enabled": True},
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/xvda", "Ebs": {**disk, "VolumeSize": 60}},
            {"DeviceName": "/dev/sdf", "Ebs": {**disk, "VolumeSize": 9}},
        ],
    }
    common |= {"SecurityGroupIds": groups, "spot": spot}
    in_zone = [{**common, "SubnetId": subnet["SubnetId"], "InstanceType": kind} for subnet, kind in zip(subnets, kinds)]
    return (
        launch(world, "worker-0", "#!/bin/sh\necho worker 0 & wait\n", **in_zone[0]),
        launch(world, "worker-1", "#!/bin/sh\necho worker 1\n", **in_zone[1]),
        launch(world, "foreign", "#!/bin/sh\necho foreign\n", managed=False, **in_zone[0]),
    )


def traits(world, identity):
    """What a replacement has to have as well."""
    row = world.row(identity)
    names = ("ImageId", "InstanceType", "KeyName", "SubnetId", "VpcId", "Placement", "Monitoring")
    options = ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "InstanceMetadataTags")
    return {
        **{name: row[name] for name in names},
        **{name: row["MetadataOptions"][name] for name in options},
        "profile": row["IamInstanceProfile"]["Arn"],
        "groups": sorted(it["GroupId"] for it in row["NetworkInterfaces"][0]["Groups"]),
        "user data": world.user_data(identity),
        "volumes": world.volumes(row),
        "tags": tags(row),
        "id": identity,
    }


def replaced(world, wanted):
    """The one replacement of an instance, which is as that one was, but for what it costs."""
    new = [row for row in world.rows(("tag:respot:replaces", wanted["id"])) if row["InstanceId"] != wanted["id"]]
    same(len(new), 1, f"replacements of {wanted['tags']['Name']}")
    same((new[0]["State"]["Name"], new[0].get("InstanceLifecycle")), ("running", "spot"), "replacement")
    got = traits(world, new[0]["InstanceId"])
    marks = got["tags"]
    assert marks.pop("respot:origin", None), f"no tag respot:origin in {marks}"
    same(marks.pop("respot:replaces"), wanted["id"], "respot:replaces")
    for name in wanted.keys() - {"id"}:
        same(got[name], wanted[name], name)
    text = base64.b64decode(got["user data"]).decode()
    assert text.startswith("#!/bin/sh\necho worker "), f"user data: {text}"
    return got["id"]


def story_brought_back(world):
    """What AWS took is launched again, as it was; nothing else is touched."""
    lost, kept, foreign = fleet(world)
    wanted, others = traits(world, lost), told([world.row(kept), world.row(foreign)])

    summary = world.respot("run")["summary"]
    same((summary["totalInstances"], summary["recreatedInstances"]), (3, 0), "first pass")
    same(world.proxy.writes(), [], "writes of a pass without a loss")
    asked = {dict(it.form)["InstanceId"] for it in world.proxy.requests if it.operation == "DescribeInstanceAttribute"}
    same(asked, {lost, kept}, "instances that were recorded")

    world.reclaim(lost)
    plan = {row["instanceId"]: row for row in world.respot("dry-run")["plan"]}
    same((plan[lost]["verdict"], plan[lost]["reason"]), ("recreate", "reclaimed"), "plan")
    same(world.proxy.writes(), [], "writes of a dry run")

    same(world.respot("run")["summary"]["recreatedInstances"], 1, "second pass")
    same(world.proxy.writes(), ["RunInstances"], "writes of the pass that brings it back")
    replaced(world, wanted)

    changes = world.respot("run")["summary"]
    same((changes["recreatedInstances"], changes["errorCount"]), (0, 0), "third pass")
    same(world.proxy.writes(), ["RunInstances"], "writes after the third pass")
    same(told([world.row(kept), world.row(foreign)]), others, "the other two")
    same(len(world.rows()), 4, "instances that there ever were")


def measured(world, loads):
    """CloudWatch has the load of the CPU of these instances, in percent, every five minutes for nine hours until now."""
    now = datetime.datetime.now(datetime.timezone.utc)
    for identity, load in loads.items():
        point = {"MetricName": "CPUUtilization", "Dimensions": [{"Name": "InstanceId", "Value": identity}]}
        times = [now - datetime.timedelta(minutes=5 * n) for n in range(108)]
        points = [{**point, "Timestamp": at, "Value": load, "Unit": "Percent"} for at in times]
        world.client("cloudwatch").put_metric_data(Namespace="AWS/EC2", MetricData=points)


def with_prices(world):
    """The settings that name the prices on demand."""
    path = os.path.join(world.folder, "prices.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{kind} = {price}\n" for kind, price in PRICES.items())
    return {"RESPOT_EC2_PRICES": path}


def story_analyzed(world):
    """What could be spot is found, with what it would save; nothing is changed."""
    kinds = ("g5.xlarge", "g5.2xlarge")
    small, large, foreign = fleet(world, kinds, spot=False)
    measured(world, {small: 20.0, large: 97.5, foreign: 30.0})
    before = told(world.rows())
    words = ("analyze", "--probe", "exec:true", "--may-lose", "*")
    found = world.respot(*words, **with_prices(world))

    same((found["complete"], found["instancesAnalyzed"], found["opportunitiesFound"]), (True, 2, 2), "what was analyzed")
    same(found["others"], [], "others")
    same([it for it in found["notes"] if "could not be read" in it], [], "notes of what could not be read")
    assert any(it.startswith("not analyzed") and it.endswith(": 1") for it in found["notes"]), f"notes: {found['notes']}"
    rows = {row["instanceId"]: row for row in found["opportunities"]}
    same(set(rows), {small, large}, "opportunities")
    spot = {Decimal(it["SpotPrice"]) for it in world.ec2.describe_spot_price_history(InstanceTypes=kinds)["SpotPriceHistory"]}
    same(len(spot), 1, "spot prices of moto")
    spot, savings = spot.pop(), Decimal(0)
    for identity, kind, name in ((small, kinds[0], "worker-0"), (large, kinds[1], "worker-1")):
        row, saving = rows[identity], PRICES[kind] - spot
        savings += saving
        got = [row[it] for it in ("instanceName", "productId", "clusterId", "currentCost", "spotCost", "savingsAmount")]
        zone = world.row(identity)["Placement"]["AvailabilityZone"]
        same(got, [name, kind, zone, PRICES[kind], spot, saving], f"row of {name}")
        same((row["monthlySavings"], row["annualSavings"]), (saving * 730, saving * 8760), f"savings of {name}")
        quota = [it for it in row["gates"]["resource"]["evidence"] if "quota of spot vCPUs (G and VT in eu-west-1) is unknown" in it]
        assert len(quota) == 1 and "NoSuchResourceException" in quota[0], f"quota: {row['gates']['resource']}"
        same(row["gates"]["application"]["verdict"], "approve", f"application gate of {name}")
    same((found["totalMonthlySavings"], found["totalAnnualSavings"]), (savings * 730, savings * 8760), "all savings")
    loads = [(rows[it]["approved"], rows[it]["workload"], rows[it]["gates"]["performance"]) for it in (small, large)]
    wanted = ((True, "stable", "healthy now: CPU 20.0 %"), (False, "stable", "near its limits now: CPU 97.5 %"))
    for (approved, workload, gate), (may, shape, evidence) in zip(loads, wanted):
        same((approved, workload), (may, shape), "approval, and shape of the load")
        assert any(it.startswith(evidence) for it in gate["evidence"]), f"{evidence} is not in {gate}"
    same(found["approved"]["count"], 1, "approved")

    asked = {it.operation for it in world.proxy.requests}
    assert {"GetMetricData", "GetServiceQuota", "DescribeSpotPriceHistory"} <= asked, f"asked: {asked}"
    assert "GetProducts" not in asked, "the price list was asked, though the file has the prices"
    same(world.proxy.writes(), [], "writes of an analysis")
    same(told(world.rows()), before, "instances")


def targets(balancer, group):
    """The port of each registered target that is healthy or not yet."""
    found = balancer.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    return {it["Target"]["Id"]: it["Target"]["Port"] for it in found if it["TargetHealth"]["State"] != "draining"}


def story_rolled_out(world):
    """On-demand instances are moved to spot with their traffic, and are stopped; nothing is terminated."""
    first, second, foreign = fleet(world, ("g5.xlarge", "g5.2xlarge"), spot=False)
    measured(world, {first: 20.0, second: 40.0})
    before, others = [traits(world, it) for it in (first, second)], told([world.row(foreign)])
    balancer, ports = world.client("elbv2"), {first: 8080, second: 8081, foreign: 80}
    shape = {"Protocol": "HTTP", "Port": 80, "TargetType": "instance", "VpcId": before[0]["VpcId"]}
    group = balancer.create_target_group(Name="web", **shape)["TargetGroups"][0]["TargetGroupArn"]
    balancer.register_targets(TargetGroupArn=group, Targets=[{"Id": it, "Port": port} for it, port in ports.items()])
    # Some milliseconds more or less by the number of its process: not all the same, and a median that hardly moves.
    probe = 'exec:test -n "$RESPOT_ADDRESS" && sleep 0.30$(($$ % 10))'
    settings = {
        **with_prices(world),
        "RESPOT_EC2_TARGET_GROUPS": group,
        "RESPOT_PROBE": probe,
        "RESPOT_PROBE_SAMPLES": "30",
        "RESPOT_ROLLOUT_MAY_LOSE": "*",
    }
    rollout = world.respot("rollout", "--yes", "--wait", "--stages", "100", "--soak", "1", **settings)["rollout"]

    got = [rollout[it] for it in ("state", "candidates", "moved", "ready", "failed", "restored", "stranded")]
    same(got, ["completed", 2, 2, 0, 0, 0, 0], "rollout: state, candidates, moved, ready, failed, restored, stranded")
    same([(it["percent"], it["verdict"]) for it in rollout["stages"]], [(100, "pass")], "stages")
    new = [replaced(world, wanted) for wanted in before]
    for wanted in before:
        row = world.row(wanted["id"])
        same(row["State"]["Name"], "stopped", f"state of {wanted['tags']['Name']}")
        marks = tags(row)
        retired = marks.pop("respot:retired", "1970-01-01T00:00:00.000Z").replace("Z", "+00:00")
        age = time.time() - datetime.datetime.fromisoformat(retired).timestamp()
        assert -1 < age < 300, f"respot:retired is {retired}, {age} s ago"
        same(marks, wanted["tags"], "tags of what was stopped")
    same(targets(balancer, group), {new[0]: 8080, new[1]: 8081, foreign: 80}, "targets")
    same(told([world.row(foreign)]), others, "the instance without the tag")
    wanted = {"RunInstances": 2, "RegisterTargets": 2, "DeregisterTargets": 2, "CreateTags": 4, "StopInstances": 2}
    writes = world.proxy.writes()
    same({it: writes.count(it) for it in writes}, wanted, "writes of the rollout")
    assert writes.index("RegisterTargets") > 1, f"traffic was moved before both ran: {writes}"
    for identity in (first, second):
        order = ["DeregisterTargets", "CreateTags", "StopInstances", "CreateTags"]
        same(world.proxy.writes_about(identity)[-4:], order, "order of writes")

    after = told(world.rows())
    summary = world.respot("run", **settings)["summary"]
    same((summary["recreatedInstances"], summary["errorCount"]), (0, 0), "pass after the rollout")
    same(world.proxy.writes(), writes, "writes of the pass after the rollout")
    same(told(world.rows()), after, "instances after the pass")
    same(len(after), 5, "instances that there ever were")


def tell(name, program, breaks):
    """Tells a story in a world of its own: what is wrong, and how many requests were judged."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        world = World(program, folder, server.get_host_and_port(), BREAKS[name] if breaks else None)
        try:
            globals()[name](world)
        except AssertionError as failure:
            failures.append(f"{name}: {failure}")
        except Exception:  # noqa: BLE001 # what the judge found is told all the same
            failures.append(f"{name}: {traceback.format_exc()}")
        failures += [f"{name}: {it}" for it in dict.fromkeys(world.proxy.judge.violations)]
        world.proxy.shutdown()
    server.stop()
    return failures, len(world.proxy.requests)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--break", dest="breaks", action="store_true", help="change names of parameters on their way")
    parser.add_argument("program", help="path of respot")
    options = parser.parse_args()
    self_test()
    began, stories = time.monotonic(), sorted(name for name in globals() if name.startswith("story_"))
    with concurrent.futures.ProcessPoolExecutor(len(stories)) as pool:
        told_of = list(pool.map(tell, stories, *([it] * len(stories) for it in (options.program, options.breaks))))
    failures = [failure for failures, _ in told_of for failure in failures]
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    took, requests = time.monotonic() - began, sum(count for _, count in told_of)
    how = f"{len(failures)} failures" if failures else "passed"
    print(f"moto: {how}; {len(stories)} stories, {requests} requests judged, {took:.1f} s")
    has_failed = bool(failures)
    if options.breaks:
        unmoved = [name for name, (failures, _) in zip(stories, told_of) if not failures]
        print("".join(f"error: {name} passed all the same\n" for name in unmoved), end="", file=sys.stderr)
        has_failed = not unmoved
    sys.exit(1 if has_failed else 0)


if __name__ == "__main__":
    main()
