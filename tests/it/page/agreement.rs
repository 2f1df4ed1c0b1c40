//! Page, report, JSON and mail of the same result.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use mail_parser::MessageParser;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::service;
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};
use crate::support::ten::{self, Kind};

/// Returns the text of a page or a mail in HTML, with single spaces.
fn plain(html: &str) -> String {
    let mut html = html.to_owned();
    for (open, close) in [("<style", "</style>"), ("<svg", "</svg>")] {
        while let Some(from) = html.find(open) {
            let to = from + html[from..].find(close).unwrap() + close.len();
            html.replace_range(from..to, " ");
        }
    }
    let pieces = html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    single_spaces(&pieces.collect::<Vec<_>>().join(" ").replace("&nbsp;", " "))
}

fn single_spaces(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns a figure as people read it, from the JSON of the figure and of its interval.
fn figure(value: &Value, interval: &Value, unit: &str) -> String {
    let whole = |value: &Value| format!("{:.0}", value.as_f64().unwrap());
    let ends = interval.as_array().map(|ends| (ends, ends[1].as_f64().unwrap() - ends[0].as_f64().unwrap()));
    match ends {
        _ if value.is_null() => "not measured".to_owned(),
        None | Some((_, ..=20.0)) => format!("{}{unit}", whole(value)),
        Some((_, ..=40.0)) => format!("about {}{unit}", whole(value)),
        Some((ends, ..=70.0)) => format!("{} to {}{unit}", whole(&ends[0]), whole(&ends[1])),
        Some(_) => "too little data".to_owned(),
    }
}

/// Returns the mail in the outbox to each address, as text and as HTML.
async fn mails(outbox: &Path, most: usize) -> HashMap<String, [String; 2]> {
    let read = || {
        let entries = std::fs::read_dir(outbox).map_or_else(|_| vec![], |entries| entries.flatten().collect());
        let paths = entries.iter().map(std::fs::DirEntry::path);
        let mails = paths.filter(|path| path.extension().is_some_and(|end| end == "eml")).map(|path| {
            let bytes = std::fs::read(path).unwrap();
            let mail = MessageParser::default().parse(&bytes).unwrap();
            let to = mail.to().unwrap().first().unwrap().address().unwrap().to_owned();
            (to, [mail.body_text(0).unwrap().replace("\r\n", "\n"), plain(&mail.body_html(0).unwrap())])
        });
        mails.collect::<HashMap<_, _>>()
    };
    let all = async {
        while read().len() < most {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("a mail for each result");
    read()
}

/// The largest number of people that a mail shows one by one.
const MAILED: u64 = 4;
const OF_100: &str = " of 100";
/// The headline figures: label, name in JSON, unit.
const FIGURES: [(&str, &str, &str); 4] = [
    ("Overall", "overall_score", OF_100),
    ("Presence", "presence", OF_100),
    ("Calmness", "calmness", OF_100),
    ("Eye contact", "eye_contact", "%"),
];

#[tokio::test(flavor = "multi_thread")]
async fn page_report_json_and_mail_agree_to_the_digit_on_ten_results() {
    let (models, made) = (clips::models(), Clips::new());
    let service = service(&models).await;
    let kinds = ten::kinds(&made);
    let mut tokens = Vec::new();
    for Kind { name, path, sample_every, .. } in &kinds {
        let form = Form::new()
            .text("email", format!("{name}@example.org"))
            .text("sample_every", sample_every.to_string())
            .text("language", "en")
            .part("video", Part::bytes(std::fs::read(path).unwrap()).file_name(format!("{name}.mp4")));
        let accepted: Value = service.upload(form).await.json().await.unwrap();
        tokens.push(accepted["token"].as_str().unwrap_or_else(|| panic!("{name}: {accepted}")).parse().unwrap());
    }
    let working = service.work().await;
    let mut jobs = Vec::new();
    for token in &tokens {
        jobs.push(service.finished(*token).await);
    }
    let mails = mails(&service.settings.mail.outbox, kinds.len()).await;
    drop(working);
    let browser = Browser::open(1280, 860, &[]).await;
    // All differences are collected, so that one run shows them.
    let missing = RefCell::new(Vec::new());
    for ((Kind { name, people, .. }, token), job) in kinds.iter().zip(tokens).zip(jobs) {
        let analysis = &job["analysis"];
        let faces = analysis["faces"].as_array().unwrap_or_else(|| panic!("{name}: {job}"));
        assert_eq!(faces.len(), *people, "{name}: {faces:#?}");
        let report = plain(&service.get(&format!("/results/{token}/report")).await.text().await.unwrap());
        let [text, mail] = &mails[&format!("{name}@example.org")];
        browser.goto(&format!("{}/results/{token}", service.base)).await;
        browser.until("the result", "document.querySelector('#analysis .plain')").await;
        let shown = |selector: String| {
            let browser = &browser;
            async move { single_spaces(&browser.text(&selector).await).replace("% to", " to") }
        };
        let is_in = |place: &str, told: &str, wanted: &str| {
            if !told.contains(wanted) {
                missing.borrow_mut().push(format!("{name}: {wanted:?} is not in the {place}: {told}"));
            }
        };
        if *people > 0 {
            let lead = shown(".story .lead".to_owned()).await;
            let n = analysis["video"]["frames_analyzed"].as_u64().unwrap();
            let samples = format!("{n} sample{}", if n == 1 { "" } else { "s" });
            is_in("page", &lead, &samples);
            is_in("report", &report, &samples);
        }
        let headline = shown(".story h1".to_owned()).await;
        is_in("report", &report, &headline);
        is_in("mail", mail, &headline);

        for face in faces {
            let card = shown(format!("[data-person='{}']", face["id"])).await;
            for share in face["emotions"].as_object().unwrap().values() {
                let share = format!("{:.1}%", share.as_f64().unwrap());
                is_in("page", &card, &share);
                is_in("report", &report, &share);
            }
            let calmness = figure(&face["calmness"], &face["intervals"]["calmness"], OF_100);
            let eyes = figure(&face["eye_contact"], &face["intervals"]["eye_contact"], "%");
            is_in("page", &card, &format!("Calmness {calmness}"));
            is_in("page", &card, &format!("Eye contact {eyes}"));
            is_in("report", &report, &calmness);
            is_in("report", &report, &eyes);
            if *people > 1 && face["id"].as_u64().unwrap() <= MAILED {
                let line = format!("Calmness: {calmness}. Eye contact: {eyes}.");
                is_in("mail", mail, &line);
                is_in("text of the mail", &single_spaces(text), &line);
            }
        }
        if *people == 1 {
            let summary = &analysis["summary"];
            for (label, key, unit) in FIGURES {
                let wanted = figure(&summary[key], &summary["intervals"][key], unit);
                is_in("report", &report, &format!("{label} {wanted}"));
                is_in("mail", mail, &format!("{label} {wanted}"));
                is_in("text of the mail", text, &format!("{label:<25}{wanted}\n"));
                let value = shown(format!("[data-figure='{key}'] .value")).await;
                if value.trim_start_matches("– ") != wanted {
                    missing.borrow_mut().push(format!("{name}: {label} is {value:?} on the page, not {wanted:?}"));
                }
            }
        }
    }
    assert!(missing.borrow().is_empty(), "{}", missing.borrow().join("\n\n"));
}
