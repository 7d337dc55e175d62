"""Proves that the answers of ec2-sim are well-formed for botocore's model of EC2 and STS.

Starts the binary, drives it with a real botocore client (so its serialiser, signer and parser take part), and walks every
raw answer over the output shape of its operation: element names, list items, enum words, times, numbers, booleans.
Run: python3 judge/judge.py [path of the binary]
"""
import json, re, subprocess, sys, urllib.request, urllib.parse, xml.etree.ElementTree as ET
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

binary = sys.argv[1] if len(sys.argv) > 1 else '/tmp/ec2sim/target/debug/ec2-sim'
server = subprocess.Popen([binary, '--instances', '6', '--on-demand', '2', '--region', 'us-east-1'], stdout=subprocess.PIPE, text=True)
url = server.stdout.readline().split()[-1]
session = botocore.session.get_session()
session.set_credentials('AKIDEXAMPLE', 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY')
config = Config(retries={'total_max_attempts': 1})
ec2 = session.create_client('ec2', region_name='eu-west-1', endpoint_url=url, config=config)
sts = session.create_client('sts', region_name='eu-west-1', endpoint_url=url, config=config)

problems, answers, elements = [], {}, 0
TIME = re.compile(r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$')

def local(tag): return tag.split('}')[-1]

def walk(node, shape, path):
    global elements
    elements += 1
    kind, text = shape.type_name, node.text or ''
    if kind == 'structure':
        names = {m.serialization.get('name', n): m for n, m in shape.members.items()}
        if text.strip(): problems.append(f'{path}: text {text!r} in a structure')
        seen = set()
        for child in node:
            name = local(child.tag)
            if name in ('requestId', 'ResponseMetadata') and path.count('/') == 0: continue
            if name in seen: problems.append(f'{path}/{name}: twice')
            seen.add(name)
            if name not in names: problems.append(f'{path}/{name}: unknown element')
            else: walk(child, names[name], f'{path}/{name}')
    elif kind == 'list':
        for child in node:
            if local(child.tag) != shape.member.serialization.get('name', 'item'): problems.append(f'{path}: {child.tag} in a list')
            walk(child, shape.member, f'{path}[]')
    elif list(node): problems.append(f'{path}: elements in a {kind}')
    elif kind == 'boolean':
        if text not in ('true', 'false'): problems.append(f'{path}: {text!r} is no boolean')
    elif kind in ('integer', 'long'):
        if not re.fullmatch(r'-?\d+', text): problems.append(f'{path}: {text!r} is no integer')
    elif kind in ('double', 'float'):
        float(text)
    elif kind == 'timestamp':
        if not TIME.match(text): problems.append(f'{path}: {text!r} is no time')
    elif kind == 'string':
        words = getattr(shape, 'enum', [])
        if words and text and text not in words: problems.append(f'{path}: {text!r} is no word of {shape.name}')
    else: problems.append(f'{path}: kind {kind}')

def judge(response_dict, operation_name, **_):
    body = response_dict['body'].decode()
    answers[operation_name] = answers.get(operation_name, 0) + 1
    root = ET.fromstring(body)
    if response_dict['status_code'] >= 300: return
    model = (sts if root.tag.startswith('{https://sts') else ec2).meta.service_model.operation_model(operation_name)
    if local(root.tag) != operation_name + 'Response': problems.append(f'{operation_name}: root {root.tag}')
    shape = model.output_shape
    if shape is None: return
    if root.tag.startswith('{https://sts'):
        root = [c for c in root if local(c.tag) == operation_name + 'Result'][0]
    elif local(root[0].tag) != 'requestId': problems.append(f'{operation_name}: requestId is not the first child')
    walk(root, shape, operation_name)

def self_test():
    """The walk has to find each of these."""
    shape = ec2.meta.service_model.operation_model('DescribeInstances').output_shape
    for wrong in ('<reservationSet><item><ownerID>1</ownerID></item></reservationSet>', '<reservationSet><member/></reservationSet>',
                  '<reservationSet><item><instancesSet><item><launchTime>2026-01-01 10:00</launchTime></item></instancesSet></item></reservationSet>',
                  '<reservationSet><item><instancesSet><item><instanceLifecycle>normal</instanceLifecycle></item></instancesSet></item></reservationSet>',
                  '<reservationSet><item><instancesSet><item><ebsOptimized>True</ebsOptimized></item></instancesSet></item></reservationSet>',
                  '<nextToken>a</nextToken><nextToken>b</nextToken>', '<nextToken><item/></nextToken>'):
        walk(ET.fromstring(f'<r>{wrong}</r>'), shape, 'self-test')
        assert problems, wrong
        problems.clear()

self_test()
for client in (ec2, sts):
    prefix = 'before-parse.' + client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(prefix, lambda operation_model, response_dict, **kw: judge(response_dict, operation_model.name))

def sim(path, body=b'', **query):
    target = f'{url}/sim/{path}?{urllib.parse.urlencode(query)}'
    request = urllib.request.Request(target, data=None if path in ('state', 'log') else body)
    return json.load(urllib.request.urlopen(request))

def fails(code, status, call, **params):
    try: call(**params)
    except ClientError as error:
        got = (error.response['Error']['Code'], error.response['ResponseMetadata']['HTTPStatusCode'])
        if got != (code, status): problems.append(f'{params}: {got} instead of {(code, status)}')
        if not error.response['Error'].get('Message'): problems.append(f'{code}: no message')
    else: problems.append(f'{params}: no error, {code} was wanted')

def look():
    """Every read there is, in the state that the world is in."""
    listed = list(ec2.get_paginator('describe_instances').paginate(PaginationConfig={'PageSize': 5}))
    ids = [i['InstanceId'] for page in listed for r in page['Reservations'] for i in r['Instances']]
    ec2.describe_instances()
    ec2.describe_spot_instance_requests(MaxResults=5)
    list(ec2.get_paginator('describe_spot_instance_requests').paginate())
    ec2.describe_volumes(); ec2.describe_subnets(); ec2.describe_instance_status(IncludeAllInstances=True)
    for identity in ids:
        for attribute in ('userData', 'disableApiTermination', 'disableApiStop', 'instanceInitiatedShutdownBehavior', 'sourceDestCheck',
                          'blockDeviceMapping', 'groupSet', 'instanceType', 'rootDeviceName', 'ebsOptimized', 'enaSupport', 'productCodes', 'kernel', 'ramdisk', 'sriovNetSupport', 'enclaveOptions'):
            ec2.describe_instance_attribute(InstanceId=identity, Attribute=attribute)
    return ids

try:
    look()
    ec2.describe_regions(AllRegions=True)
    types = ec2.describe_instance_types(MaxResults=5)['InstanceTypes']
    ec2.describe_instance_types(InstanceTypes=['g5.xlarge'])
    for kind in ('region', 'availability-zone', 'availability-zone-id'):
        ec2.describe_instance_type_offerings(LocationType=kind)
    prices = list(ec2.get_paginator('describe_spot_price_history').paginate(InstanceTypes=['g5.xlarge'], ProductDescriptions=['Linux/UNIX', 'Linux/UNIX (Amazon VPC)'], PaginationConfig={'PageSize': 2}))
    subnet = ec2.describe_subnets()['Subnets'][0]
    some = sim('state')['instances'][0]
    launch = dict(ImageId=some['image'], InstanceType='g5.xlarge', KeyName='ops', MinCount=1, MaxCount=1, ClientToken='t-1', UserData='echo',
        IamInstanceProfile={'Arn': 'arn:aws:iam::111122223333:instance-profile/gpu-worker'}, EbsOptimized=True, Monitoring={'Enabled': True},
        NetworkInterfaces=[{'DeviceIndex': 0, 'SubnetId': subnet['SubnetId'], 'Groups': some['groups'], 'AssociatePublicIpAddress': True, 'DeleteOnTermination': True}],
        BlockDeviceMappings=[{'DeviceName': '/dev/xvda', 'Ebs': {'VolumeSize': 60, 'VolumeType': 'gp3', 'Iops': 4000, 'Throughput': 250, 'Encrypted': True}}, {'DeviceName': '/dev/sdg', 'Ebs': {'VolumeSize': 9, 'DeleteOnTermination': False}}],
        InstanceMarketOptions={'MarketType': 'spot', 'SpotOptions': {'SpotInstanceType': 'one-time'}}, CpuOptions={'CoreCount': 2, 'ThreadsPerCore': 1},
        MetadataOptions={'HttpTokens': 'required', 'HttpPutResponseHopLimit': 2, 'HttpEndpoint': 'enabled', 'InstanceMetadataTags': 'enabled'}, Placement={'Tenancy': 'default'},
        TagSpecifications=[{'ResourceType': 'instance', 'Tags': [{'Key': 'Name', 'Value': 'new & <shiny>'}]}, {'ResourceType': 'volume', 'Tags': [{'Key': 'a', 'Value': 'b'}]}])
    fails('DryRunOperation', 412, ec2.run_instances, DryRun=True, **launch)
    first = ec2.run_instances(**launch)
    new = first['Instances'][0]['InstanceId']
    assert ec2.run_instances(**launch)['Instances'][0]['InstanceId'] == new, 'token'
    fails('IdempotentParameterMismatch', 400, ec2.run_instances, **{**launch, 'InstanceType': 'g5.2xlarge'})
    fails('InvalidInstanceID.NotFound', 400, ec2.describe_instances, InstanceIds=[new])
    sim('advance', ms=40000); look()
    persistent = {**launch, 'ClientToken': 't-2', 'InstanceMarketOptions': {'MarketType': 'spot', 'SpotOptions': {'SpotInstanceType': 'persistent', 'InstanceInterruptionBehavior': 'stop'}}}
    other = ec2.run_instances(**persistent)['Instances'][0]['InstanceId']
    plain = {k: v for k, v in launch.items() if k != 'InstanceMarketOptions'} | {'ClientToken': 't-3'}
    third = ec2.run_instances(**plain)['Instances'][0]['InstanceId']
    sim('launch-dies', code='Server.InternalError')
    dead = ec2.run_instances(**{**launch, 'ClientToken': 't-4'})['Instances'][0]['InstanceId']
    sim('advance', ms=40000); look()
    ec2.create_tags(Resources=[new], Tags=[{'Key': 'x', 'Value': 'y'}])
    sim('reclaim', id=new); sim('reclaim', id=other); look()
    ec2.stop_instances(InstanceIds=[third])
    sim('advance', ms=121000); look()
    sim('advance', ms=21000); look()
    ec2.start_instances(InstanceIds=[third])
    fails('IncorrectSpotRequestState', 400, ec2.start_instances, InstanceIds=[other])
    requests = {r.get('InstanceId'): r for r in ec2.describe_spot_instance_requests()['SpotInstanceRequests']}
    assert requests[new]['Status']['Code'] == 'instance-terminated-no-capacity', requests[new]
    assert requests[other]['State'] == 'disabled', requests[other]
    ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[requests[other]['SpotInstanceRequestId'], requests[dead]['SpotInstanceRequestId']])
    ec2.terminate_instances(InstanceIds=[third]); ec2.terminate_instances(InstanceIds=[third])
    sim('advance', ms=150000); look()
    sim('room', type='g5.xlarge', zone=subnet['AvailabilityZone'], n=0)
    fails('InsufficientInstanceCapacity', 500, ec2.run_instances, **{**launch, 'ClientToken': 't-5'})
    fails('IdempotentInstanceTerminated', 400, ec2.run_instances, **launch)
    sim('fault', b'DescribeRegions@1:code=RequestLimitExceeded,status=503')
    fails('RequestLimitExceeded', 503, ec2.describe_regions)
    sts.get_caller_identity()
    role = 'arn:aws:iam::111122223333:role/respot'
    for answer in (sts.assume_role(RoleArn=role, RoleSessionName='judge'), sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName='judge', WebIdentityToken='some.web.token')):
        keys = answer['Credentials']
        temporary = dict(aws_access_key_id=keys['AccessKeyId'], aws_secret_access_key=keys['SecretAccessKey'], endpoint_url=url, config=config)
        session.create_client('ec2', region_name='us-east-1', aws_session_token=keys['SessionToken'], **temporary).describe_instances()
        who = session.create_client('sts', region_name='us-east-1', aws_session_token=keys['SessionToken'], **temporary).get_caller_identity()
        assert who['Arn'].endswith(':assumed-role/respot/judge'), who
        fails('AuthFailure', 401, session.create_client('ec2', region_name='us-east-1', **temporary).describe_instances)
    wrong = session.create_client('ec2', region_name='eu-west-1', endpoint_url=url, config=config, aws_access_key_id='AKIDEXAMPLE', aws_secret_access_key='wrong')
    fails('SignatureDoesNotMatch', 403, wrong.describe_instances)
    fails('AccessDenied', 403, sts.assume_role, RoleArn='arn:aws:iam::111122223333:role/forbidden', RoleSessionName='judge')
finally:
    server.kill()

print(f'botocore {botocore.__version__}: {sum(answers.values())} answers of {len(answers)} actions, {elements} elements walked')
print(', '.join(f'{name} {count}' for name, count in sorted(answers.items())))
print('\n'.join(sorted(set(problems))) or 'no problem')
sys.exit(bool(problems))
