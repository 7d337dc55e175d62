//! Who am I, and temporary keys.

use super::asking::first;
use crate::World;

const ROLE: &str = "arn:aws:iam::111122223333:role/respot";

fn sts(world: &mut World, form: &str) -> crate::Reply {
    world.call("eu-west-1", "sts", &format!("{form}&Version=2011-06-15"))
}

#[test]
fn it_tells_the_account_and_the_user() {
    let mut world = World::new(1);
    let reply = sts(&mut world, "Action=GetCallerIdentity");
    assert_eq!(first(&reply.body, "Account").as_deref(), Some(crate::ACCOUNT));
    assert!(reply.body.contains("<GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/respot</Arn>"));
}

#[test]
fn roles_give_temporary_keys() {
    let mut world = World::new(1);
    for form in [
        format!("Action=AssumeRole&RoleArn={ROLE}&RoleSessionName=respot-1"),
        format!("Action=AssumeRoleWithWebIdentity&RoleArn={ROLE}&RoleSessionName=respot-1&WebIdentityToken=jwt"),
    ] {
        let reply = sts(&mut world, &form);
        assert_eq!(first(&reply.body, "Expiration").as_deref(), Some("2026-01-15T13:00:00Z"), "{}", reply.body);
        let key = first(&reply.body, "AccessKeyId").expect("a key");
        let known = world.keys.get(&key).expect("it is accepted");
        assert_eq!(known.token, first(&reply.body, "SessionToken"));
        let who = world.call_as(&key, "eu-west-1", "sts", "Action=GetCallerIdentity&Version=2011-06-15");
        let arn = first(&who.body, "Arn").expect("a name");
        assert_eq!(arn, "arn:aws:sts::111122223333:assumed-role/respot/respot-1");
    }
}

#[test]
fn wrong_roles_and_tokens_are_refused() {
    let mut world = World::new(1);
    let web = format!("Action=AssumeRoleWithWebIdentity&RoleArn={ROLE}&RoleSessionName=respot");
    for (form, status, code) in [
        ("Action=AssumeRole&RoleSessionName=respot".to_owned(), 400, "ValidationError"),
        (format!("Action=AssumeRole&RoleArn={ROLE}&RoleSessionName=a b"), 400, "ValidationError"),
        (format!("Action=AssumeRole&RoleArn={ROLE}&RoleSessionName=ab&DurationSeconds=60"), 400, "ValidationError"),
        (
            format!("Action=AssumeRole&RoleArn={}&RoleSessionName=ab", ROLE.replace("respot", "forbidden")),
            403,
            "AccessDenied",
        ),
        (format!("{web}&WebIdentityToken=expired"), 400, "ExpiredTokenException"),
        (format!("{web}&WebIdentityToken=bad"), 400, "InvalidIdentityToken"),
        (web, 400, "ValidationError"),
    ] {
        let reply = sts(&mut world, &form);
        assert_eq!((reply.status, first(&reply.body, "Code").as_deref()), (status, Some(code)), "{form}");
    }
}
