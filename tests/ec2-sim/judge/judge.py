"""Proves that the answers of ec2-sim are well-formed for botocore's models of the services.

Starts the binary, drives it with real botocore clients (so their serialisers, signers and parsers take part), and walks
every raw answer, XML or JSON, over the output shape of its operation: names, list items, enum words, times, numbers,
booleans.
Run: python3 judge/judge.py [path of the binary]
"""
import json, re, subprocess, sys, time, urllib.request, urllib.parse, xml.etree.ElementTree as ET
import botocore.model
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

binary = sys.argv[1] if len(sys.argv) > 1 else 'target/debug/ec2-sim'
server = subprocess.Popen([binary, '--instances', '6', '--on-demand', '2', '--region', 'us-east-1'], stdout=subprocess.PIPE, text=True)
url = server.stdout.readline().split()[-1]
session = botocore.session.get_session()
session.set_credentials('AKIDEXAMPLE', 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY')
config = Config(retries={'total_max_attempts': 1})
# CloudWatch speaks CBOR, JSON and forms; the stand-in speaks JSON, as respot does.
botocore.model.PRIORITY_ORDERED_SUPPORTED_PROTOCOLS = ('json', 'rest-json', 'rest-xml', 'query', 'ec2')
ec2 = session.create_client('ec2', region_name='eu-west-1', endpoint_url=url, config=config)
sts = session.create_client('sts', region_name='eu-west-1', endpoint_url=url, config=config)
watch = session.create_client('cloudwatch', region_name='eu-west-1', endpoint_url=url, config=config)
elb = session.create_client('elbv2', region_name='eu-west-1', endpoint_url=url, config=config)
pricing = session.create_client('pricing', region_name='us-east-1', endpoint_url=url, config=config)
quotas = session.create_client('service-quotas', region_name='eu-west-1', endpoint_url=url, config=config)

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
            if local(child.tag) != shape.member.serialization.get('name', 'member'): problems.append(f'{path}: {child.tag} in a list')
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

def walk_json(value, shape, path):
    """The same for a JSON answer."""
    global elements
    elements += 1
    kind = shape.type_name
    wanted = {'structure': dict, 'map': dict, 'list': list, 'boolean': bool, 'integer': int, 'long': int, 'string': str}.get(kind, (int, float))
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != 'boolean'): problems.append(f'{path}: {value!r} is no {kind}')
    elif kind == 'structure':
        for name, inner in value.items():
            if name not in shape.members: problems.append(f'{path}/{name}: unknown member')
            else: walk_json(inner, shape.members[name], f'{path}/{name}')
    elif kind == 'map':
        for inner in value.values(): walk_json(inner, shape.value, f'{path}{{}}')
    elif kind == 'list':
        for inner in value: walk_json(inner, shape.member, f'{path}[]')
    elif kind == 'string':
        words = getattr(shape, 'enum', [])
        if words and value not in words: problems.append(f'{path}: {value!r} is no word of {shape.name}')

def judge(response_dict, operation_name, client):
    body = response_dict['body'].decode()
    answers[operation_name] = answers.get(operation_name, 0) + 1
    protocol = client.meta.service_model.resolved_protocol
    shape = client.meta.service_model.operation_model(operation_name).output_shape
    failed = response_dict['status_code'] >= 300
    if protocol == 'json':
        value = json.loads(body)
        if failed:
            if not value['__type'].endswith('#' + response_dict['headers']['x-amzn-errortype']): problems.append(f'{operation_name}: {value}')
        else: walk_json(value, shape, operation_name)
        return
    root = ET.fromstring(body)
    if failed: return
    if local(root.tag) != operation_name + 'Response': problems.append(f'{operation_name}: root {root.tag}')
    namespace = client.meta.service_model.metadata.get('xmlNamespace')
    # The model of EC2 leaves out the slash at the end, which EC2 writes.
    if namespace and root.tag.split('}')[0].strip('{/') != namespace.strip('/'): problems.append(f'{operation_name}: {root.tag} is not in {namespace}')
    if protocol == 'query':
        if [local(c.tag) for c in root] != [operation_name + 'Result', 'ResponseMetadata']: problems.append(f'{operation_name}: {[c.tag for c in root]}')
        root = root[0]
    elif local(root[0].tag) != 'requestId': problems.append(f'{operation_name}: requestId is not the first child')
    if shape is not None: walk(root, shape, operation_name)

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
    shape = watch.meta.service_model.operation_model('GetMetricData').output_shape
    for wrong in ({'metricDataResults': []}, {'MetricDataResults': {}}, {'MetricDataResults': [{'StatusCode': 'Done'}]},
                  {'MetricDataResults': [{'Timestamps': ['2026-01-01T00:00:00Z']}]}, {'MetricDataResults': [{'Values': [True]}]}):
        walk_json(wrong, shape, 'self-test')
        assert problems, wrong
        problems.clear()

self_test()
for client in (ec2, sts, watch, elb, pricing, quotas):
    prefix = 'before-parse.' + client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(prefix, lambda operation_model, response_dict, client=client, **kw: judge(response_dict, operation_model.name, client))

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

def metric(identity, metric, number, namespace='AWS/EC2', period=300):
    return {'Id': f'q{number}', 'MetricStat': {'Metric': {'Namespace': namespace, 'MetricName': metric, 'Dimensions': [{'Name': 'InstanceId', 'Value': identity}]}, 'Period': period, 'Stat': 'Average'}}

def measure(identity):
    """What CloudWatch says about an instance, which was started an hour ago."""
    now = time.time()
    queries = [metric(identity, 'CPUUtilization', 1), metric(identity, 'StatusCheckFailed', 2, period=60), metric(identity, 'x', 3), metric(identity, 'nvidia_smi_utilization_gpu', 4, 'CWAgent')]
    found = watch.get_metric_data(StartTime=now - 3600, EndTime=now, MetricDataQueries=queries)['MetricDataResults']
    assert [len(r['Values']) > 0 for r in found] == [True, True, False, False], found
    assert 19 <= min(found[0]['Values']) <= max(found[0]['Values']) <= 21 and found[0]['Timestamps'] == sorted(found[0]['Timestamps'], reverse=True), found[0]
    sim('gpu-load', id=identity, percent=88); sim('cpu', id=identity, percent=3)
    pages = list(watch.get_paginator('get_metric_data').paginate(StartTime=now - 3600, EndTime=now, MetricDataQueries=queries, MaxDatapoints=5))
    assert len(pages) > 5, pages
    fails('ValidationError', 400, watch.get_metric_data, StartTime=now, EndTime=now - 1, MetricDataQueries=queries)
    fails('InvalidNextToken', 400, watch.get_metric_data, StartTime=now - 60, EndTime=now, MetricDataQueries=queries, NextToken='x')
    sim('deny', action='GetMetricData')
    fails('AccessDeniedException', 400, watch.get_metric_data, StartTime=now - 60, EndTime=now, MetricDataQueries=queries)
    sim('allow', action='GetMetricData')
    sim('fault', b'GetMetricData@1:code=ThrottlingException')
    fails('ThrottlingException', 400, watch.get_metric_data, StartTime=now - 60, EndTime=now, MetricDataQueries=queries)

def balance(identity, other):
    """A target group with the one instance; the other one does not run."""
    arn = sim('target-group', name='web')['arn']
    assert [g['TargetGroupName'] for g in elb.describe_target_groups(TargetGroupArns=[arn])['TargetGroups']] == ['web']
    sim('target-group', name='api')
    assert len(list(elb.get_paginator('describe_target_groups').paginate(PaginationConfig={'PageSize': 1}))) == 2
    targets = dict(TargetGroupArn=arn, Targets=[{'Id': identity}])
    def state(**more):
        found = elb.describe_target_health(TargetGroupArn=arn, **more)['TargetHealthDescriptions']
        return [(d['Target']['Id'], d['TargetHealth']['State'], d['TargetHealth'].get('Reason')) for d in found]
    elb.register_targets(**targets); elb.register_targets(**targets)
    seen = [state()]
    for step in (dict(path='advance', ms=31000), dict(path='unhealthy', id=identity), dict(path='unhealthy', id=identity, **{'is': 'false'}), None, dict(path='advance', ms=301000)):
        if step: sim(**step)
        else: elb.deregister_targets(**targets)
        seen.append(state())
    assert [s[0][1] for s in seen[:-1]] == ['initial', 'healthy', 'unhealthy', 'healthy', 'draining'] and seen[-1] == [], seen
    assert state(Targets=[{'Id': identity, 'Port': 81}]) == [(identity, 'unused', 'Target.NotRegistered')]
    fails('InvalidTarget', 400, elb.register_targets, TargetGroupArn=arn, Targets=[{'Id': other}])
    fails('TargetGroupNotFound', 400, elb.describe_target_health, TargetGroupArn=arn + '0')
    fails('ValidationError', 400, elb.describe_target_health, TargetGroupArn='web')
    sim('deny', action='RegisterTargets')
    fails('AccessDenied', 403, elb.register_targets, **targets)
    sim('allow', action='RegisterTargets')
    assert [c['after'] for c in sim('target-log')] == ['initial', 'healthy', 'unhealthy', 'healthy', 'draining', None]

def protect(identity):
    """An on-demand instance that may be neither stopped nor terminated, and that its user may not touch."""
    sim('protected', id=identity); sim('protected', id=identity, **{'from': 'stop'})
    for code, status, dry in (('OperationNotPermitted', 400, False), ('OperationNotPermitted', 400, True)):
        for call in (ec2.stop_instances, ec2.terminate_instances): fails(code, status, call, InstanceIds=[identity], DryRun=dry)
    assert ec2.describe_instance_attribute(InstanceId=identity, Attribute='disableApiTermination')['DisableApiTermination']['Value']
    sim('protected', id=identity, **{'is': 'false'}); sim('protected', id=identity, **{'from': 'stop', 'is': 'false'})
    for call in (ec2.stop_instances, ec2.terminate_instances): fails('DryRunOperation', 412, call, InstanceIds=[identity], DryRun=True)
    for action in ('StopInstances', 'TerminateInstances'): sim('deny', action=action)
    for call in (ec2.stop_instances, ec2.terminate_instances):
        for dry in (True, False): fails('UnauthorizedOperation', 403, call, InstanceIds=[identity], DryRun=dry)
    for action in ('StopInstances', 'TerminateInstances'): sim('allow', action=action)

def price_list():
    def terms(**fields): return [{'Type': 'TERM_MATCH', 'Field': field, 'Value': value} for field, value in fields.items()]
    exact = dict(regionCode='eu-west-1', instanceType='g5.xlarge', operatingSystem='Linux', tenancy='Shared', capacitystatus='Used', preInstalledSw='NA', marketoption='OnDemand', productFamily='Compute Instance')
    found = pricing.get_products(ServiceCode='AmazonEC2', Filters=terms(**exact), FormatVersion='aws_v1', MaxResults=100)['PriceList']
    assert len(found) == 1 and isinstance(found[0], str), found
    usd = [d['pricePerUnit']['USD'] for t in json.loads(found[0])['terms']['OnDemand'].values() for d in t['priceDimensions'].values()]
    assert usd == ['1.1230000000'], usd
    pages = list(pricing.get_paginator('get_products').paginate(ServiceCode='AmazonEC2', Filters=terms(regionCode='us-east-1'), PaginationConfig={'PageSize': 20}))
    assert sum(len(p['PriceList']) for p in pages) == 43 and len(pages) == 3, pages
    fails('InvalidParameterException', 400, pricing.get_products, ServiceCode='AmazonEC2', Filters=terms(instancetype='g5.xlarge'))
    fails('InvalidNextTokenException', 400, pricing.get_products, ServiceCode='AmazonEC2', NextToken='x')
    elsewhere = session.create_client('pricing', region_name='eu-west-1', endpoint_url=url, config=config)
    fails('InvalidSignatureException', 400, elsewhere.get_products, ServiceCode='AmazonEC2')

def quota_list():
    for market, codes in (('spot', 'L-34B43A08 L-3819A6DF L-7212CCBC L-E3A00192 L-85EED4F7 L-B5D1601B L-88CF9481'), ('on-demand', 'L-1216C47A L-DB2E81BA L-417A185B')):
        for code in codes.split():
            group = quotas.get_service_quota(ServiceCode='ec2', QuotaCode=code)['Quota']['UsageMetric']['MetricDimensions']['Class'].split('/')[0]
            sim('quota', market=market, group=group, vcpus=96)
            assert quotas.get_service_quota(ServiceCode='ec2', QuotaCode=code)['Quota']['Value'] == 96.0
            sim('quota', market=market, group=group, vcpus=1000)
    fails('NoSuchResourceException', 400, quotas.get_service_quota, ServiceCode='ec2', QuotaCode='L-00000000')

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
    measure(sim('state')['instances'][0]['id'])
    web, beside = [i['id'] for i in sim('state')['instances'] if i['lifecycle'] == 'on-demand']
    ec2.stop_instances(InstanceIds=[beside])
    balance(web, beside); protect(web); price_list(); quota_list()
    sim('quota', market='on-demand', group='G', vcpus=0)
    fails('VcpuLimitExceeded', 400, ec2.start_instances, InstanceIds=[beside])
    sim('quota', market='on-demand', group='G', vcpus=1000)
    ec2.start_instances(InstanceIds=[beside]); sim('advance', ms=40000)
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
    wrong = session.create_client('cloudwatch', region_name='eu-west-1', endpoint_url=url, config=config, aws_access_key_id='AKIDOTHER', aws_secret_access_key='wrong')
    fails('UnrecognizedClientException', 400, wrong.get_metric_data, StartTime=0, EndTime=1, MetricDataQueries=[metric('i-1', 'x', 1)])
    fails('AccessDenied', 403, sts.assume_role, RoleArn='arn:aws:iam::111122223333:role/forbidden', RoleSessionName='judge')
finally:
    server.kill()

print(f'botocore {botocore.__version__}: {sum(answers.values())} answers of {len(answers)} actions, {elements} elements walked')
print(', '.join(f'{name} {count}' for name, count in sorted(answers.items())))
print('\n'.join(sorted(set(problems))) or 'no problem')
sys.exit(bool(problems))
