"""respot's real program against moto, through a proxy that judges each request by botocore's model (see model.py).

Run it by tests/ec2-sim/judge/moto, which obtains moto and boto3. A story is a function `story_*`: it has a world of its own, and
fails with an AssertionError.
"""

import argparse
import base64
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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCOUNT, REGION = "111122223333", "eu-west-1"
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
# Nothing here goes to AWS, or to a proxy, whatever the environment says.
for variable in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[variable]
os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, NO_PROXY="127.0.0.1")
# moto reads it when it is loaded. It comes before this folder, where moto is the name of this file.
os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT
sys.path.append(sys.path.pop(0))

import boto3  # noqa: E402
from model import Judge, Request, self_test  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

EC2 = "http://ec2.amazonaws.com/doc/2016-11-15"
ET.register_namespace("", EC2)

WRITES = ("Run", "Terminate", "Stop", "Start", "Create", "Delete", "Cancel", "Modify", "Register", "Deregister")


class Proxy(ThreadingHTTPServer):
    """In front of moto: judges what comes, and tells one lie."""

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
            body = body.replace(b"InstanceMarketOptions.MarketType", b"InstanceMarketOption.MarketType")
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
        self.send_response(answer.status)
        for name in ("content-type", "x-amzn-requestid"):
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

    def respot(self, *words):
        """Calls the program, and returns its JSON."""
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
        }
        call = [self.program, *words, "-o", "json"]
        ran = subprocess.run(call, env=settings, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)
        same(ran.returncode, 0, f"exit code of respot {' '.join(words)}:\n{ran.stdout}{ran.stderr}")
        assert SECRET not in ran.stdout + ran.stderr, "the secret key was printed"
        return json.loads(ran.stdout)

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


def launch(world, name, data, managed=True, **more):
    """A spot instance with all that a replacement has to have as well."""
    own = [{"Key": "Name", "Value": name}, {"Key": "team", "Value": "vision & sound"}]
    if managed:
        own.append({"Key": "respot", "Value": "managed"})
    answer = world.ec2.run_instances(
        MinCount=1,
        MaxCount=1,
        UserData=data,
        InstanceMarketOptions={"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}},
        TagSpecifications=[{"ResourceType": "instance", "Tags": own}],
        **more,
    )
    return answer["Instances"][0]["InstanceId"]


def fleet(world):
    """Two instances with the tag that opts in, and one without."""
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
        "InstanceType": "g5.xlarge",
        "KeyName": "ops",
        "IamInstanceProfile": {"Arn": profile},
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "Monitoring": {"Enabled": True},
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/xvda", "Ebs": {**disk, "VolumeSize": 60}},
            {"DeviceName": "/dev/sdf", "Ebs": {**disk, "VolumeSize": 9}},
        ],
    }
    in_zone = [{**common, "SubnetId": subnet["SubnetId"], "SecurityGroupIds": groups} for subnet in subnets[:2]]
    return (
        launch(world, "worker-0", "#!/bin/sh\necho worker 0 & wait\n", **in_zone[0]),
        launch(world, "worker-1", "#!/bin/sh\necho worker 1\n", **in_zone[1]),
        launch(world, "foreign", "#!/bin/sh\necho foreign\n", managed=False, **in_zone[0]),
    )


def story_brought_back(world):
    """What AWS took is launched again, as it was; nothing else is touched."""
    lost, kept, foreign = fleet(world)
    before, data = world.row(lost), world.user_data(lost)
    before_volumes, others = world.volumes(before), told([world.row(kept), world.row(foreign)])

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
    new = [row for row in world.rows(("tag:Name", "worker-0")) if row["InstanceId"] != lost]
    same(len(new), 1, "replacements")
    new = new[0]
    same((new["State"]["Name"], new.get("InstanceLifecycle")), ("running", "spot"), "replacement")
    for fact in ("ImageId", "InstanceType", "KeyName", "SubnetId", "VpcId", "IamInstanceProfile", "Placement"):
        wanted, got = before[fact], new[fact]
        if fact == "IamInstanceProfile":
            wanted, got = wanted["Arn"], got["Arn"]
        same(got, wanted, fact)
    for fact in ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "InstanceMetadataTags"):
        same(new["MetadataOptions"][fact], before["MetadataOptions"][fact], fact)
    same(new["Monitoring"], before["Monitoring"], "monitoring")
    groups = [sorted(it["GroupId"] for it in row["NetworkInterfaces"][0]["Groups"]) for row in (new, before)]
    same(groups[0], groups[1], "security groups")
    same(world.user_data(new["InstanceId"]), data, "user data")
    assert base64.b64decode(data).endswith(b"echo worker 0 & wait\n"), "user data of the old one"
    same(world.volumes(new), before_volumes, "volumes")
    marks = tags(new)
    assert marks.pop("respot:origin", None), f"no tag respot:origin in {marks}"
    same(marks.pop("respot:replaces", None), lost, "respot:replaces")
    same(marks, tags(before), "tags")

    changes = world.respot("run")["summary"]
    same((changes["recreatedInstances"], changes["errorCount"]), (0, 0), "third pass")
    same(world.proxy.writes(), ["RunInstances"], "writes after the third pass")
    same(told([world.row(kept), world.row(foreign)]), others, "the other two")
    same(len(world.rows()), 4, "instances that there ever were")


def empty(moto):
    """Forgets what the story before has left."""
    line = http.client.HTTPConnection(*moto, timeout=60)
    line.request("POST", "/moto-api/reset")
    same(line.getresponse().status, 200, "reset of moto")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--break", dest="breaks", action="store_true", help="change the name of a parameter on its way")
    parser.add_argument("program", help="path of respot")
    options = parser.parse_args()
    self_test()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    stories = [it for name, it in sorted(globals().items()) if name.startswith("story_")]
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    failures, began, requests = [], time.monotonic(), 0
    for story in stories:
        with tempfile.TemporaryDirectory() as folder:
            empty(server.get_host_and_port())
            world = World(options.program, folder, server.get_host_and_port(), options.breaks)
            try:
                story(world)
            except AssertionError as failure:
                failures.append(f"{story.__name__}: {failure}")
            except Exception:  # noqa: BLE001 # the other stories are told all the same
                failures.append(f"{story.__name__}: {traceback.format_exc()}")
            requests += len(world.proxy.requests)
            failures += [f"{story.__name__}: {it}" for it in dict.fromkeys(world.proxy.judge.violations)]
            world.proxy.shutdown()
    server.stop()
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    took = time.monotonic() - began
    how = f"{len(failures)} failures" if failures else "passed"
    print(f"moto: {how}; {len(stories)} stories, {requests} requests judged, {took:.1f} s")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
