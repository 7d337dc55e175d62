//! Requests to receivers. Errors never contain an address or a response: both may contain secrets.

use std::error::Error;
use std::io;

use anyhow::{Context, Result};
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use rustls::CertificateError;

use super::{NotDelivered, REQUEST_TIME, Resend};
use crate::core::world::headers::retry_after;
use crate::proxies::Proxies;
use crate::tls;

/// Sends small requests, each in bounded time.
#[derive(Debug)]
pub(super) struct Outbound(reqwest::Client);

/// What is sent.
pub(super) struct Message {
    pub(super) method: reqwest::Method,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Outbound {
    /// `encrypted`: whether any of the addresses begins with https.
    pub(super) fn new(encrypted: bool, proxies: &Proxies) -> Result<Self> {
        let client = tls::client_builder(encrypted, proxies)?.timeout(REQUEST_TIME).build();
        Ok(Self(client.context("cannot set up the HTTP client")?))
    }

    /// Sends one request; any 2xx is a success.
    pub(super) async fn send(&self, url: &str, message: Message) -> Result<(), NotDelivered> {
        let Message { method, content_type, headers, body } = message;
        let mut all = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        for (name, value) in headers {
            let value = HeaderValue::from_str(&value).map_err(|_| format!("the header {name} cannot be sent"))?;
            all.insert(HeaderName::from_static(name), value);
        }
        let answer = self.0.request(method, url).headers(all).body(body).send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                let why = format!("the receiver answered {}", answer.status().as_u16());
                Err(NotDelivered { why, resend: resend(answer.status().as_u16(), answer.headers()) })
            }
            Err(error) if error.is_timeout() => Err("no answer in time".into()),
            Err(error) if is_of_another_name(&error) => Err("its certificate is for another name".into()),
            Err(error) => Err(tls::causes(error).into()),
        }
    }
}

fn resend(status: u16, headers: &HeaderMap) -> Resend {
    let header = |name| headers.get(name).and_then(|it| it.to_str().ok());
    match status {
        410 => Resend::Never,
        429 | 503 => {
            let wait = header(RETRY_AFTER).and_then(|wait| retry_after(wait, header(DATE)));
            wait.map_or(Resend::Normally, Resend::After)
        }
        _ => Resend::Normally,
    }
}

/// Whether the certificate is for another name than the one in the address: the error of rustls would show that name.
fn is_of_another_name(error: &reqwest::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) = cause.downcast_ref()
        {
            return true;
        }
        // The inner error of an I/O error is not among its sources.
        let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = held.map(|held| -> &(dyn Error + 'static) { held }).or_else(|| cause.source());
    }
    false
}
