//! Mails about videos that were sent without a key: they wait for the consent of their recipient, and their number is
//! limited.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use serde_json::Value;
use tokio::task::JoinHandle;
use visage::clock::{Clock, RandomTokens, SystemClock};
use visage::config::{MailTransport, Settings, SmtpSecurity};
use visage::report::{Mailer, Reporter};
use visage::store::Scope;
use visage::worker::{MailSender, Worker};

use crate::keys::{clip, key};
use crate::support::service::{RefusingAnalyzer, Service, video_form};
use crate::support::smtp::SmtpServer;

/// Starts a service that sends mails to this server.
async fn service(smtp: &SmtpServer, change: impl FnOnce(&mut Settings)) -> Service {
    let port = smtp.port();
    Service::start(|settings| {
        settings.http.trusted_proxies = vec!["127.0.0.1".to_owned()];
        settings.mail.transport = MailTransport::Smtp;
        settings.mail.from = "visage <robot@visage.example>".to_owned();
        settings.mail.smtp.host = "localhost".to_owned();
        settings.mail.smtp.port = port;
        settings.mail.smtp.security = SmtpSecurity::None;
        settings.queue.poll_s = 1;
        change(settings);
    })
    .await
}

fn work(service: &Service) -> JoinHandle<()> {
    let mailer = Mailer::new(&service.settings, Reporter::new(&service.settings).unwrap()).unwrap();
    let worker = Worker {
        name: "test".to_owned(),
        settings: service.settings.clone(),
        store: service.store.clone(),
        blobs: service.blobs.clone(),
        identity: service.identity,
        analyzer: Arc::new(RefusingAnalyzer),
        job_process: None,
        mail_sender: mailer.map(|mailer| Arc::new(mailer) as Arc<dyn MailSender>),
        clock: Arc::new(SystemClock),
        tokens: Arc::new(RandomTokens),
    };
    tokio::spawn(worker.run(service.stop.clone()))
}

async fn send(service: &Service, address: &str, emails: &[&str]) -> Response {
    let form = emails.iter().fold(video_form(clip()), |form, email| form.text("email", (*email).to_owned()));
    let request = service.http.post(format!("{}/analyze-video", service.base)).header("x-forwarded-for", address);
    request.multipart(form).send().await.unwrap()
}

async fn accepted(response: Response) -> uuid::Uuid {
    assert_eq!(response.status(), StatusCode::ACCEPTED, "{}", response.text().await.unwrap());
    response.json::<Value>().await.unwrap()["token"].as_str().unwrap().parse().unwrap()
}

async fn refused(response: Response, status: u16, code: &str) -> Value {
    let given = response.status();
    let body: Value = response.json().await.unwrap();
    assert_eq!((given.as_u16(), body["code"].as_str()), (status, Some(code)), "{body}");
    body
}

/// Waits until the server has this many mails. Returns recipient and text of each.
async fn mails(smtp: &SmtpServer, count: usize) -> Vec<(String, String)> {
    for _ in 0..3000 {
        let messages = smtp.messages();
        if messages.len() >= count {
            let text = |raw: &[u8]| {
                let mail = mail_parser::MessageParser::default().parse(raw).unwrap();
                mail.body_text(0).unwrap().into_owned()
            };
            return messages.iter().map(|mail| (mail.to.join(","), text(&mail.raw))).collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} of {count} mails came", smtp.messages().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_mails_wait_until_their_one_recipient_has_confirmed() {
    let smtp = SmtpServer::start();
    let service = service(&smtp, |_| {}).await;
    let working = work(&service);
    refused(send(&service, "192.0.2.1", &["ann@example.org", "bob@example.org"]).await, 422, "too_many_recipients")
        .await;
    let page = service.http.get(&service.base).header(header::ACCEPT, "text/html").send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("get a mail to confirm it") && !page.contains(" multiple"), "the page asks for one address");
    let first = accepted(send(&service, "192.0.2.1", &["ann@example.org"]).await).await;
    service.finished(first).await;
    let second = accepted(send(&service, "192.0.2.2", &["Ann@example.org"]).await).await;
    service.finished(second).await;
    let asked = mails(&smtp, 1).await;
    let [(to, text)] = asked.as_slice() else { panic!("one mail asks for both videos: {asked:?}") };
    assert_eq!(to, "ann@example.org");
    assert!(!text.contains(&first.to_string()), "a stranger must not get the token: {text}");
    let link = text.split_whitespace().find(|word| word.contains("/confirm-mail?")).expect("a link");

    let page = service.http.get(link).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.text().await.unwrap().contains("<form method=\"post\">"));
    let lease = Duration::from_secs(60);
    assert!(service.store.claim_mail(SystemClock.now(), lease).await.unwrap().is_none(), "GET confirms nothing");
    let forged = service.http.post(link.replace("signature=", "signature=0")).send().await.unwrap();
    refused(forged, 404, "unknown_link").await;
    let forged = service.http.get(link.replace("signature=", "signature=0")).header(header::ACCEPT, "text/html");
    let forged = forged.send().await.unwrap();
    assert_eq!(forged.status(), StatusCode::NOT_FOUND);
    assert!(forged.text().await.unwrap().contains("This link is not valid"));
    assert!(service.store.claim_mail(SystemClock.now(), lease).await.unwrap().is_none());

    let done = service.http.post(link).send().await.unwrap();
    assert_eq!((done.status(), done.headers()[header::CACHE_CONTROL].to_str().unwrap()), (StatusCode::OK, "no-store"));
    let held = mails(&smtp, 3).await;
    assert!(held[1..].iter().any(|(_, text)| text.contains(&first.to_string())), "{held:?}");
    assert!(held[1..].iter().any(|(_, text)| text.contains(&second.to_string())), "{held:?}");
    let third = accepted(send(&service, "192.0.2.3", &["ann@example.org"]).await).await;
    let (to, text) = mails(&smtp, 4).await.remove(3);
    assert!(to == "ann@example.org" && text.contains(&third.to_string()), "the person is asked once: {text}");

    // A key needs no confirmation, and may name several recipients.
    let key = key(&service, &[Scope::Analyze]).await;
    let form = video_form(clip()).text("email", "cem@example.org").text("email", "dan@example.org");
    let request = service.http.post(format!("{}/analyze-video", service.base)).bearer_auth(&key);
    accepted(request.multipart(form).send().await.unwrap()).await;
    let mut to: Vec<_> = mails(&smtp, 6).await.split_off(4).into_iter().map(|(to, _)| to).collect();
    to.sort();
    assert_eq!(to, ["cem@example.org", "dan@example.org"]);
    drop(working);
}

/// The headers of the n-th mail.
fn header(smtp: &SmtpServer, mail: usize, name: &str) -> Option<String> {
    let raw = smtp.messages()[mail].raw.clone();
    let parsed = mail_parser::MessageParser::default().parse(&raw).unwrap();
    parsed.header_raw(name).map(|value| value.split_whitespace().collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_withdraws_the_consent_by_a_link_of_each_mail() {
    let smtp = SmtpServer::start();
    let service = service(&smtp, |settings| settings.http.public_url = "https://visage.example/faces".to_owned()).await;
    let working = work(&service);
    let here = |link: &str| link.replace("https://visage.example/faces", &service.base);
    let link = |text: &str, path: &str| {
        let link = text.split_whitespace().find(|word| word.contains(path));
        here(link.unwrap_or_else(|| panic!("no link to {path}: {text}")))
    };
    let finish = async |address: &str| {
        let token = accepted(send(&service, address, &["ann@example.org"]).await).await;
        service.finished(token).await;
        token
    };
    finish("192.0.2.1").await;
    let (_, asked) = mails(&smtp, 1).await.remove(0);
    link(&asked, "/withdraw-mail?");
    service.http.post(link(&asked, "/confirm-mail?")).send().await.unwrap();
    let (_, report) = mails(&smtp, 2).await.remove(1);
    let withdraw = link(&report, "/withdraw-mail?");
    // Programs for mail send one request (RFC 8058).
    for mail in 0..2 {
        let one_click = header(&smtp, mail, "List-Unsubscribe").unwrap();
        assert_eq!(here(one_click.trim_matches(['<', '>'])), withdraw, "mail {mail}");
        assert_eq!(header(&smtp, mail, "List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    }

    let html = |request: reqwest::RequestBuilder| request.header(header::ACCEPT, "text/html").send();
    let page = html(service.http.get(&withdraw)).await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    assert!(page.contains("Stop the mails") && page.contains("<form method=\"post\">"), "{page}");
    finish("192.0.2.2").await;
    mails(&smtp, 3).await;
    let forged = service.http.post(withdraw.replace("signature=", "signature=0")).send().await.unwrap();
    refused(forged, 404, "unknown_link").await;
    let confirms = service.http.post(withdraw.replace("/withdraw-mail?", "/confirm-mail?expires=9999999999&"));
    refused(confirms.send().await.unwrap(), 404, "unknown_link").await;

    let one_click = service.http.post(&withdraw).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let one_click = one_click.body("List-Unsubscribe=One-Click").send().await.unwrap();
    assert_eq!((one_click.status(), one_click.url().as_str()), (StatusCode::OK, withdraw.as_str()));
    let waiting = finish("192.0.2.3").await;
    // Reports of a key need no consent.
    let key = key(&service, &[Scope::Analyze]).await;
    let form = video_form(clip()).text("email", "ann@example.org");
    let request = service.http.post(format!("{}/analyze-video", service.base)).bearer_auth(&key);
    accepted(request.multipart(form).send().await.unwrap()).await;
    let all = mails(&smtp, 4).await;
    assert!(!all[3].1.contains("/withdraw-mail?"), "{}", all[3].1);
    assert_eq!(header(&smtp, 3, "List-Unsubscribe"), None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(smtp.messages().len(), 4, "neither a question nor a report");

    // The same page confirms again.
    let page = html(service.http.get(&withdraw)).await.unwrap().text().await.unwrap();
    let (_, again) = page.split_once("action=\"./confirm-mail?").expect("a form");
    let again = again.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    let done = service.http.post(format!("{}/confirm-mail?{again}", service.base)).send().await.unwrap();
    assert_eq!(done.status(), StatusCode::OK);
    let last = finish("192.0.2.4").await;
    let later = mails(&smtp, 6).await.split_off(4);
    // That of the video which was sent after the withdrawal waited.
    for token in [waiting, last] {
        assert!(later.iter().any(|(_, text)| text.contains(&token.to_string())), "{later:?}");
    }
    drop(working);
}

#[tokio::test]
async fn mails_are_limited_by_recipient_domain_address_and_key() {
    let smtp = SmtpServer::start();
    let service = service(&smtp, |settings| {
        settings.limits.change(|limits| limits.mails_per_day_recipient = 2);
        settings.limits.change(|limits| limits.mails_per_day_domain = 3);
        settings.limits.change(|limits| limits.mails_per_day_address = 2);
        settings.limits.change(|limits| limits.mails_per_day_key = 3);
    })
    .await;
    let ask = async |address: &str, email: &str| send(&service, address, &[email]).await;
    accepted(ask("192.0.2.1", "ann@one.example").await).await;
    accepted(ask("192.0.2.1", "ANN@one.example").await).await;
    let response = ask("192.0.2.1", "bob@two.example").await;
    let wait_s: u64 = response.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=24 * 3600).contains(&wait_s), "{wait_s}");
    let of = |body: Value| (body["of"].as_str().unwrap().to_owned(), body["limit"].as_u64().unwrap());
    assert_eq!(of(refused(response, 429, "too_many_mails").await), ("address".to_owned(), 2));
    let again = refused(ask("192.0.2.2", "ann@one.example").await, 429, "too_many_mails").await;
    assert_eq!(of(again), ("recipient".to_owned(), 2));
    accepted(ask("192.0.2.2", "bob@one.example").await).await;
    let domain = refused(ask("192.0.2.3", "cem@one.example").await, 429, "too_many_mails").await;
    assert_eq!(of(domain), ("domain".to_owned(), 3));
    accepted(ask("192.0.2.3", "cem@two.example").await).await;
    accepted(service.upload(video_form(clip())).await).await;

    let key = key(&service, &[Scope::Analyze]).await;
    let with_key = async |emails: &[&str]| {
        let form = emails.iter().fold(video_form(clip()), |form, email| form.text("email", (*email).to_owned()));
        let request = service.http.post(format!("{}/analyze-video", service.base)).bearer_auth(&key);
        request.multipart(form).send().await.unwrap()
    };
    accepted(with_key(&["dan@one.example", "eve@one.example"]).await).await;
    let both = refused(with_key(&["dan@one.example", "fay@one.example"]).await, 429, "too_many_mails").await;
    assert_eq!(of(both), ("key".to_owned(), 3));
    let bad = with_key(&["gil@one.example", "not an address"]).await;
    refused(bad, 422, "bad_email").await;
    accepted(with_key(&["gil@one.example"]).await).await;
}
