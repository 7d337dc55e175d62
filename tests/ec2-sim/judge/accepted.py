"""Writes src/accepted.rs from botocore's models: python3 judge/accepted.py > src/accepted.rs, then cargo fmt."""
import botocore.session
s=botocore.session.get_session()
OPS="""DescribeRegions DescribeInstances DescribeSpotInstanceRequests DescribeInstanceAttribute DescribeVolumes DescribeSubnets
DescribeInstanceTypes DescribeInstanceTypeOfferings DescribeSpotPriceHistory DescribeInstanceStatus RunInstances
TerminateInstances StopInstances StartInstances CancelSpotInstanceRequests CreateTags""".split()
MODELS = [('ec2', OPS), ('elbv2', 'DescribeTargetGroups DescribeTargetHealth RegisterTargets DeregisterTargets'.split()),
          ('cloudwatch', ['GetMetricData']), ('pricing', ['GetProducts']), ('service-quotas', ['GetServiceQuota'])]
# The lists of the older query protocol have one more name; JSON has neither, but is read as if it were a form.
LISTS = {'elbv2': '.member.#'}
def wire(name, sh):
    q=sh.serialization.get('queryName')
    if q: return q
    l=sh.serialization.get('name')
    return l[0].upper()+l[1:] if l else name
def walk(sh, prefix, out, of='.#', wire=wire):
    if sh.type_name=='structure':
        for n,x in sh.members.items(): walk(x,(prefix+'.' if prefix else '')+wire(n,x),out,of,wire)
    elif sh.type_name=='list': walk(sh.member,prefix+of,out,of,wire)
    else: out.append((prefix, sh.type_name, getattr(sh,'enum',[])))
print('''//! The parameters that the actions take, and of which kind each is: from the service models of botocore.

use std::fmt;

/// What a parameter wants.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    Text,
    Flag,
    Number,
    Time,
    /// A time as seconds since 1970, in JSON.
    Seconds,
    Word(&'static [&'static str]),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text"),
            Self::Flag => f.write_str("true or false"),
            Self::Number => f.write_str("a whole number"),
            Self::Time => f.write_str("a time"),
            Self::Seconds => f.write_str("seconds since 1970"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

type Parameters = &'static [(&'static str, Wanted)];

use Wanted::{Flag, Number, Seconds, Text, Time, Word};

/// The parameters of an action, besides `Action` and `Version`. In a name, `#` stands for a number from 1.
pub(crate) fn accepted(action: &str) -> Parameters {
    match action {''')
def const(op):
    import re
    return re.sub(r'(?<!^)([A-Z])',r'_\1',op).upper()
for _, ops in MODELS:
    for op in ops: print(f'        "{op}" => {const(op)},')
print('''        _ => &[],
    }
}
''')
for service, op in [(service, op) for service, ops in MODELS for op in ops]:
    m = s.get_service_model(service)
    own = wire if service == 'ec2' else lambda name, sh: name
    out=[]; walk(m.operation_model(op).input_shape,'',out,LISTS.get(service, '.#'),own)
    print(f'const {const(op)}: Parameters = &[')
    for p,t,e in sorted(out):
        if p.startswith('InstanceType'): e=[]
        if p.startswith('Operator.') or len(e)>60: e=[]
        if service not in ('ec2', 'elbv2') and t=='timestamp': t='seconds'
        k={'string':'Text','boolean':'Flag','integer':'Number','timestamp':'Time','seconds':'Seconds','blob':'Text'}[t]
        if e: k='Word(&['+', '.join('"%s"'%x for x in e)+'])'
        print(f'    ("{p}", {k}),')
    print('];\n')
