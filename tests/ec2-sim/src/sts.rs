//! STS: who am I, and temporary keys. An older protocol: errors and answers have another shape.

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::keys::AccessKey;
use crate::region::ACCOUNT;
use crate::world::World;
use crate::xml::{Xml, time};

impl World {
    /// The whole answer of an STS action.
    pub(crate) fn sts(&mut self, key: &str, action: &str, form: &Form, id: &str) -> Answer<String> {
        if form.need("Version").map_err(validation)? != "2011-06-15" {
            return Err(ApiError::new("InvalidAction", "Could not find the operation for this version"));
        }
        let mut xml = Xml::new();
        match action {
            "GetCallerIdentity" => {
                let key = self.keys.get(key);
                let key = key.ok_or_else(|| ApiError::new("InvalidClientTokenId", "The security token is invalid"))?;
                xml.text("Arn", &key.arn);
                xml.text("UserId", &key.user_id);
                xml.text("Account", ACCOUNT);
            }
            "AssumeRole" => self.assume(form, &mut xml)?,
            "AssumeRoleWithWebIdentity" => {
                match form.need("WebIdentityToken").map_err(validation)? {
                    "expired" => {
                        let message = "Token expired: current date/time must be before the expiration date/time";
                        return Err(ApiError::new("ExpiredTokenException", message));
                    }
                    "bad" => {
                        let message = "The ID Token provided is not a valid JWT. (You may see this error if you sent an \
                                       Access Token)";
                        return Err(ApiError::new("InvalidIdentityToken", message));
                    }
                    _ => {}
                }
                self.assume(form, &mut xml)?;
                xml.text("SubjectFromWebIdentityToken", "system:serviceaccount:respot:respot");
                xml.text("Audience", "sts.amazonaws.com");
                xml.text("Provider", "arn:aws:iam::111122223333:oidc-provider/oidc.example");
            }
            _ => {
                let message = format!("Could not find operation {action} for version 2011-06-15");
                return Err(ApiError::new("InvalidAction", message));
            }
        }
        let inside = xml.into_text();
        Ok(format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n<{action}Result>{inside}\
             </{action}Result>\n<ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>\n</{action}Response>\n"
        ))
    }

    /// Makes temporary keys for a role. A role whose name is `forbidden` may not be assumed.
    fn assume(&mut self, form: &Form, xml: &mut Xml) -> Answer<()> {
        let role = form.need("RoleArn").map_err(validation)?;
        let session = form.need("RoleSessionName").map_err(validation)?;
        let name = role.strip_prefix(&format!("arn:aws:iam::{ACCOUNT}:role/"));
        let Some(name) = name.filter(|name| *name != "forbidden") else {
            let message = format!("User is not authorized to perform: sts:AssumeRole on resource: {role}");
            return Err(ApiError::new("AccessDenied", message));
        };
        let is_session = |letter: char| letter.is_ascii_alphanumeric() || "+=,.@_-".contains(letter);
        if !(2..=64).contains(&session.len()) || !session.chars().all(is_session) {
            let message = format!("1 validation error detected: Value '{session}' at 'roleSessionName' is not valid");
            return Err(ApiError::new("ValidationError", message));
        }
        let seconds = form.number("DurationSeconds").unwrap_or(3_600);
        if !(900..=43_200).contains(&seconds) {
            let message = format!("1 validation error detected: Value '{seconds}' at 'durationSeconds' is not valid");
            return Err(ApiError::new("ValidationError", message));
        }
        let ends_ms = self.now + seconds * 1_000;
        let (first, second) = (self.rng.u128(..), self.rng.u128(..));
        let key = AccessKey {
            id: format!("ASIA{:016X}", self.rng.u64(..)),
            secret: format!("{first:032x}+/{:06x}", second & 0xff_ffff),
            token: Some(format!("IQoJb3JpZ2luX2VjE{second:032x}//////////wEaCXVzLWVhc3QtMQ{first:032x}==")),
            ends_ms: Some(ends_ms),
            arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}"),
            user_id: format!("AROAEXAMPLEROLEID0001:{session}"),
        };
        xml.node("AssumedRoleUser", |xml| {
            xml.text("AssumedRoleId", &key.user_id);
            xml.text("Arn", &key.arn);
        });
        xml.node("Credentials", |xml| {
            xml.text("AccessKeyId", &key.id);
            xml.text("SecretAccessKey", &key.secret);
            xml.maybe("SessionToken", key.token.as_ref());
            xml.text("Expiration", time(ends_ms).replace(".000Z", "Z"));
        });
        self.keys.insert(key);
        self.effects += 1;
        Ok(())
    }
}

fn validation(error: ApiError) -> ApiError {
    ApiError::new("ValidationError", error.message)
}
