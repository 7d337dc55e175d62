"""Writes tests/fixtures/ec2/forms: requests as botocore serializes them, one parameter a line, for tests of the client.

Run it with a Python that has botocore: python3 tests/ec2-sim/judge/forms.py
"""

from pathlib import Path

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.serialize import create_serializer

MODEL = ServiceModel(Loader().load_service_model("ec2", "service-2"))
SERIALIZER = create_serializer("ec2")
FOLDER = Path(__file__).parents[2] / "fixtures" / "ec2" / "forms"

TAGS = [
    {"Key": "Name", "Value": "worker"},
    {"Key": "respot", "Value": "managed"},
    {"Key": "team", "Value": "vision & sound"},
    {"Key": "respot:origin", "Value": "0123456789ab"},
    {"Key": "respot:replaces", "Value": "i-0aaaaaaaaaaaaaaaa"},
]

FORMS = {
    "launch": (
        "RunInstances",
        {
            "ImageId": "ami-0123456789abcdef0",
            "InstanceType": "g5.xlarge",
            "MinCount": 1,
            "MaxCount": 1,
            "KeyName": "ops",
            "EbsOptimized": True,
            "CpuOptions": {"CoreCount": 2, "ThreadsPerCore": 1},
            "IamInstanceProfile": {"Arn": "arn:aws:iam::111122223333:instance-profile/worker"},
            # As it is read and sent: the serializer leaves the encoding to its caller.
            "UserData": "IyEvYmluL3NoCg==",
            "InstanceInitiatedShutdownBehavior": "terminate",
            "Monitoring": {"Enabled": True},
            "Placement": {"GroupName": "near"},
            "MetadataOptions": {
                "HttpTokens": "required",
                "HttpPutResponseHopLimit": 2,
                "HttpEndpoint": "enabled",
                "HttpProtocolIpv6": "disabled",
                "InstanceMetadataTags": "disabled",
            },
            "NetworkInterfaces": [
                {
                    "DeviceIndex": 0,
                    "SubnetId": "subnet-0123456789abcdef0",
                    "Groups": ["sg-1", "sg-2"],
                    "AssociatePublicIpAddress": True,
                    "DeleteOnTermination": True,
                }
            ],
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/xvda",
                    "Ebs": {
                        "DeleteOnTermination": True,
                        "VolumeSize": 100,
                        "VolumeType": "gp3",
                        "Iops": 3000,
                        "Throughput": 125,
                        "Encrypted": True,
                        "KmsKeyId": "arn:aws:kms:eu-west-1:111122223333:key/1",
                    },
                },
                {"DeviceName": "/dev/sdb", "Ebs": {"DeleteOnTermination": True, "VolumeSize": 50, "VolumeType": "gp2"}},
            ],
            "InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}},
            "TagSpecifications": [
                {"ResourceType": "instance", "Tags": TAGS},
                {"ResourceType": "volume", "Tags": TAGS},
            ],
        },
    ),
    "prices": (
        "DescribeSpotPriceHistory",
        {
            "InstanceTypes": ["g5.xlarge", "g6.xlarge"],
            "ProductDescriptions": ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"],
            "StartTime": "2026-11-30T12:00:00Z",
        },
    ),
    "terminate": ("TerminateInstances", {"InstanceIds": ["i-0aaaaaaaaaaaaaaaa"]}),
    "cancel": ("CancelSpotInstanceRequests", {"SpotInstanceRequestIds": ["sir-1"]}),
    "by-id": (
        "DescribeInstances",
        {"Filters": [{"Name": "instance-id", "Values": ["i-0aaaaaaaaaaaaaaaa"]}], "MaxResults": 500},
    ),
    "by-marker": (
        "DescribeInstances",
        {"Filters": [{"Name": "tag:respot:origin", "Values": ["0123456789ab"]}], "MaxResults": 500},
    ),
    "requests": (
        "DescribeSpotInstanceRequests",
        {"Filters": [{"Name": "spot-instance-request-id", "Values": ["sir-1"]}], "MaxResults": 500},
    ),
    "volumes": (
        "DescribeVolumes",
        {"Filters": [{"Name": "volume-id", "Values": ["vol-1", "vol-2"]}], "MaxResults": 500},
    ),
    "attribute": ("DescribeInstanceAttribute", {"InstanceId": "i-0aaaaaaaaaaaaaaaa", "Attribute": "userData"}),
}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (operation, parameters) in FORMS.items():
        request = SERIALIZER.serialize_to_request(parameters, MODEL.operation_model(operation))
        body = {key: value for key, value in request["body"].items() if key not in ("Action", "Version")}
        lines = "".join(f"{key}={value}\n" for key, value in sorted(body.items()))
        (FOLDER / f"{name}.txt").write_text(f"{operation}\n{lines}")


main()
