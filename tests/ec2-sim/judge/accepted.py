"""Writes src/accepted.rs from botocore's model."""
import botocore.session
s=botocore.session.get_session(); m=s.get_service_model('ec2')
OPS="""DescribeRegions DescribeInstances DescribeSpotInstanceRequests DescribeInstanceAttribute DescribeVolumes DescribeSubnets
DescribeInstanceTypes DescribeInstanceTypeOfferings DescribeSpotPriceHistory DescribeInstanceStatus RunInstances
TerminateInstances StopInstances StartInstances CancelSpotInstanceRequests CreateTags""".split()
def wire(name, sh):
    q=sh.serialization.get('queryName')
    if q: return q
    l=sh.serialization.get('name')
    return l[0].upper()+l[1:] if l else name
def walk(sh, prefix, out):
    if sh.type_name=='structure':
        for n,x in sh.members.items(): walk(x,(prefix+'.' if prefix else '')+wire(n,x),out)
    elif sh.type_name=='list': walk(sh.member,prefix+'.#',out)
    else: out.append((prefix, sh.type_name, getattr(sh,'enum',[])))
print('''//! The parameters that the actions take, and of which kind each is: from the service model (botocore's 2016-11-15).

use std::fmt;

/// What a parameter wants.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    Text,
    Flag,
    Number,
    Time,
    Word(&'static [&'static str]),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text"),
            Self::Flag => f.write_str("true or false"),
            Self::Number => f.write_str("a whole number"),
            Self::Time => f.write_str("a time"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

type Parameters = &'static [(&'static str, Wanted)];

use Wanted::{Flag, Number, Text, Time, Word};

/// The parameters of an action, besides `Action` and `Version`. In a name, `#` stands for a number from 1.
pub(crate) fn accepted(action: &str) -> Parameters {
    match action {''')
def const(op):
    import re
    return re.sub(r'(?<!^)([A-Z])',r'_\1',op).upper()
for op in OPS: print(f'        "{op}" => {const(op)},')
print('''        _ => &[],
    }
}
''')
for op in OPS:
    out=[]; walk(m.operation_model(op).input_shape,'',out)
    print(f'const {const(op)}: Parameters = &[')
    for p,t,e in sorted(out):
        if p.startswith('InstanceType'): e=[]
        if p.startswith('Operator.') or len(e)>60: e=[]
        k={'string':'Text','boolean':'Flag','integer':'Number','timestamp':'Time','blob':'Text'}[t]
        if e: k='Word(&['+', '.join('"%s"'%x for x in e)+'])'
        print(f'    ("{p}", {k}),')
    print('];\n')
