//! Tests of whole pages and mails, on made-up findings.

use mail_parser::{MessageParser, MimeHeaders as _};

use super::{Context, Mailer, Message, Reporter, sample};
use crate::analysis::{Emotion, FailureReason, Findings, Language, Relative, Warning};
use crate::config::Settings;

fn context() -> Context {
    Context {
        token: "3f2b8c1e-5d4a-4e6f-9a7b-0c1d2e3f4a5b".parse().unwrap(),
        created_at: "2026-11-21T10:45:00Z".parse().unwrap(),
        language: Language::EN,
        file_name: Some("talk <1>.mp4".to_owned()),
        result_url: Some("https://visage.example/results/3f2b8c1e-5d4a-4e6f-9a7b-0c1d2e3f4a5b".to_owned()),
        withdraw_url: None,
        notice: None,
    }
}

fn settings() -> Settings {
    Settings::defaults().unwrap()
}

fn page(findings: &Findings) -> String {
    Reporter::new(&settings()).unwrap().html(findings, &context()).unwrap()
}

fn mail(settings: &Settings, message: Message<'_>) -> Vec<u8> {
    let mailer = Mailer::new(settings, Reporter::new(settings).unwrap()).unwrap().unwrap();
    let id = "0192f0c1-2233-7444-8555-666677778888".parse().unwrap();
    mailer.compose(id, "anna@example.org", message, &context())
}

fn bodies(mail: &[u8]) -> (String, String) {
    let parsed = MessageParser::default().parse(mail).unwrap();
    (parsed.body_text(0).unwrap().replace("\r\n", "\n"), parsed.body_html(0).unwrap().replace("\r\n", "\n"))
}

/// Returns the texts of a page, one line for each element, without drawings and style sheet.
fn outline(html: &str) -> String {
    let mut html = html.to_owned();
    for (open, close, stand_in) in [("<style", "</style>", ""), ("<svg", "</svg>", "<hr>drawing<hr>")] {
        while let Some(from) = html.find(open) {
            let to = from + html[from..].find(close).unwrap() + close.len();
            html.replace_range(from..to, stand_in);
        }
    }
    let mut lines = Vec::new();
    for piece in html.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        let name = tag.split_whitespace().next().unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.is_empty() {
            lines.push(format!("{name}: {text}"));
        }
    }
    lines.join("\n")
}

#[test]
fn text_mails_have_short_lines_and_match_their_snapshots() {
    for (name, findings) in all() {
        let (text, _) = bodies(&mail(&settings(), Message::Report(&findings)));
        assert!(text.lines().all(|line| line.chars().count() <= 88), "{name}");
        insta::assert_snapshot!(format!("mail_text_{name}"), text);
    }
}

#[test]
fn pages_and_html_mails_keep_their_structure() {
    for (name, findings) in all() {
        insta::assert_snapshot!(format!("page_{name}"), outline(&page(&findings)));
        let (_, html) = bodies(&mail(&settings(), Message::Report(&findings)));
        insta::assert_snapshot!(format!("mail_html_{name}"), outline(&html));
    }
}

#[test]
fn page_and_mails_are_german_if_the_language_is_german() {
    let context = Context { language: Language::from_tag("de").unwrap(), ..context() };
    let reporter = Reporter::new(&settings()).unwrap();
    let findings = sample::one();
    let page = reporter.html(&findings, &context).unwrap();
    assert!(page.contains("<html lang=\"de\">") && !page.contains("%{"));
    insta::assert_snapshot!("page_one_german", outline(&page));
    keep("one-german.html", page.as_bytes());
    let mailer = Mailer::new(&settings(), reporter).unwrap().unwrap();
    let sent = mailer.compose(context.token, "anna@example.org", Message::Report(&findings), &context);
    let subject = MessageParser::default().parse(&sent).unwrap().subject().unwrap().to_owned();
    assert_eq!(subject, "talk <1>.mp4: Erst traurig, dann fröhlich");
    let (text, html) = bodies(&sent);
    assert!(html.contains("lang=\"de\"") && !html.contains("%{"));
    insta::assert_snapshot!("mail_text_one_german", text);
    let failure = Message::Failure { reason: Some(&FailureReason::NotAVideo), detail: "Not read." };
    let sent = mailer.compose(context.token, "anna@example.org", failure, &context);
    insta::assert_snapshot!("mail_text_failure_german", bodies(&sent).0);
}

#[test]
fn a_report_in_another_language_holds_no_english_sentence() {
    let english = texts("en");
    for language in Language::all().filter(|language| *language != Language::EN) {
        let own = texts(language.tag());
        // The pieces of the English texts between placeholders, if they have at least three words.
        let pieces: Vec<(&str, &str)> = english
            .iter()
            .flat_map(|(key, text)| {
                text.split("%{")
                    .map(|piece| piece.split_once('}').map_or(piece, |(_, rest)| rest))
                    .map(|piece| (key.as_str(), piece.trim()))
            })
            .filter(|(key, piece)| piece.split_whitespace().count() >= 3 && !own[*key].contains(piece))
            .collect();
        assert!(pieces.len() > 200, "{}", pieces.len());

        let context = Context { language, ..context() };
        let reporter = Reporter::new(&settings()).unwrap();
        let mailer = Mailer::new(&settings(), reporter.clone()).unwrap().unwrap();
        let sent = |message: Message<'_>| {
            let (text, html) = bodies(&mailer.compose(context.token, "anna@example.org", message, &context));
            [text, outline(&html)]
        };
        let mut told = Vec::new();
        for (name, mut findings) in all() {
            findings.analysis.warning_codes = Warning::examples();
            told.push((name, outline(&reporter.html(&findings, &context).unwrap())));
            told.extend(sent(Message::Report(&findings)).map(|text| (name, text)));
        }
        for reason in FailureReason::examples() {
            let message = Message::Failure { reason: Some(&reason), detail: "The English sentence that is stored." };
            told.extend(sent(message).map(|text| ("failure", text)));
        }
        for (name, text) in told {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(!text.contains("The English sentence"), "{name}: {text}");
            for (key, piece) in &pieces {
                assert!(!text.contains(piece), "{}: {name}: {key}: {piece}", language.tag());
            }
        }
    }
}

/// Returns the texts of a language, by key.
fn texts(tag: &str) -> std::collections::BTreeMap<String, String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../locales/{tag}.toml"));
    leaves(&std::fs::read_to_string(path).unwrap())
}

fn leaves(toml: &str) -> std::collections::BTreeMap<String, String> {
    fn walk(into: &mut std::collections::BTreeMap<String, String>, key: &str, table: &toml::Table) {
        for (name, value) in table {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            match value {
                toml::Value::Table(table) => walk(into, &key, table),
                text => drop(into.insert(key, text.as_str().unwrap().to_owned())),
            }
        }
    }
    let mut found = std::collections::BTreeMap::new();
    walk(&mut found, "", &toml.parse().unwrap());
    found
}

#[test]
fn a_page_allows_its_own_style_and_no_other() {
    let reporter = Reporter::new(&settings()).unwrap();
    let html = reporter.html(&sample::two(), &context()).unwrap();
    let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    use base64::Engine as _;
    use sha2::Digest as _;
    let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style));
    assert_eq!(reporter.style_source(), format!("sha256-{hash}"));
    assert!(html.contains(&format!("style-src 'sha256-{hash}'")) && !html.contains(" style="));
}

#[test]
fn the_mail_about_a_failure_contains_the_reason() {
    let detail = "The file is damaged: no picture in it could be decoded. Export it again and upload that.";
    let (text, html) = bodies(&mail(&settings(), Message::Failure { reason: None, detail }));
    insta::assert_snapshot!("mail_text_failure", text);
    insta::assert_snapshot!("mail_html_failure", outline(&html));
    keep("mail-failure.html", html.as_bytes());
}

fn all() -> [(&'static str, Findings); 4] {
    [("one", sample::one()), ("two", sample::two()), ("nobody", sample::nobody()), ("short", sample::short())]
}

#[test]
fn a_page_compares_expressions_with_the_usual_ones_of_the_person() {
    let page = outline(&page(&sample::alternating()));
    for line in [
        "td: as usual",
        "td: more",
        "p: Usual for this person in this video: sad 62%, neutral 15%. These expressions rose clearly above their usual \
         level, though others may have been stronger:",
        "p: 9 shorter rises are not listed.",
        "dt: Usual expressions",
    ] {
        assert!(page.lines().any(|told| told == line), "{line}: {page}");
    }
    assert_eq!(page.matches("td: more").count(), 5, "half of the ten phases that are listed");

    let mut calm = sample::alternating();
    calm.analysis.faces[0].relative =
        Some(Relative::Compared { usual: [(Emotion::Neutral, 0.9)].into(), rises: Vec::new() });
    let page = outline(&self::page(&calm));
    assert!(page.contains("neutral 90%. No expression rose clearly above its usual level."), "{page}");
    // Results of older versions have no comparison.
    let page = outline(&self::page(&sample::gap()));
    assert!(!page.to_lowercase().contains("usual level") && !page.contains("Compared with usual"), "{page}");
}

#[test]
fn a_page_loads_no_other_files_and_has_no_scripts() {
    for (name, findings) in all().into_iter().chain([
        ("gap", sample::gap()),
        ("long", sample::long()),
        ("alternating", sample::alternating()),
    ]) {
        let html = page(&findings);
        assert!(html.len() < 200_000, "{name}: {} bytes", html.len());
        let bare = html.replace("http://www.w3.org/2000/svg", "");
        for wrong in ["<script", "<link", "<iframe", "@import", "src=\"http", "url(http", " onload=", " onclick="] {
            assert!(!bare.contains(wrong), "{name}: {wrong}");
        }
        keep(&format!("{name}.html"), html.as_bytes());
    }
}

#[test]
fn mails_are_small_and_the_same_in_every_attempt() {
    for findings in [sample::one(), sample::two(), sample::long(), sample::alternating()] {
        let sent = mail(&settings(), Message::Report(&findings));
        assert!(sent.len() < 60_000, "{} bytes", sent.len());
        assert_eq!(sent, mail(&settings(), Message::Report(&findings)));
    }
}

#[test]
fn every_text_of_a_mail_has_a_colour_for_dark_mode() {
    let several = sample::two();
    let mails = [
        ("report", Message::Report(&several)),
        ("failure", Message::Failure { reason: None, detail: "Not read." }),
        ("confirmation", Message::Confirm { url: "https://visage.example/confirm-mail?x" }),
    ];
    for (name, message) in mails {
        let (_, html) = bodies(&mail(&settings(), message));
        let mut texts = 0;
        for tag in html.split('<') {
            let tag = tag.split('>').next().unwrap_or_default();
            for (colour, classes) in [("color:#1c2430", &["ink", "warn"][..]), ("color:#566173", &["soft"])] {
                if tag.contains(colour) {
                    let has = |class: &&str| tag.contains(&format!("class=\"{class}"));
                    assert!(classes.iter().any(has), "{name}: {tag}");
                    texts += 1;
                }
            }
            // The address of a button stands on the accent, which dark mode keeps.
            let is_link = tag.starts_with("a ") && !tag.contains("text-decoration:none");
            assert!(!is_link || tag.contains("class=\"link\""), "{name}: {tag}");
        }
        assert!(texts >= 2, "{name}: {html}");
    }
}

#[test]
fn ribbons_show_every_run_and_no_time_without_a_face() {
    // 39 runs of ten seconds: all are in the ribbon, and the longest ten in the list.
    let findings = sample::alternating();
    let html = page(&findings);
    let ribbon = html.split("<svg class=\"course\"").nth(1).unwrap().split("</svg>").next().unwrap();
    assert_eq!((ribbon.matches('M').count(), findings.analysis.faces[0].segments.len()), (39, 39), "{ribbon}");
    assert!(html.contains("29 shorter spans are not listed"));
    // A face that is seen for 2 of 6.4 s fills a third of the ribbon of the mail.
    let findings = sample::brief();
    let (_, html) = bodies(&mail(&settings(), Message::Report(&findings)));
    let width = |class: &str| -> usize {
        let cells = html.split("<td width=\"").skip(1).filter(|cell| cell.split('>').next().unwrap().contains(class));
        cells.map(|cell| cell.split('%').next().unwrap().parse::<usize>().unwrap()).sum()
    };
    assert_eq!((width("title=\"Happy\""), width("class=\"gap\"")), (31, 69), "{html}");
}

#[test]
fn several_people_have_a_line_each_and_no_average_comes_first() {
    let findings = sample::two();
    let (html, sent) = (page(&findings), mail(&settings(), Message::Report(&findings)));
    let (text, mail_html) = bodies(&sent);
    let subject = MessageParser::default().parse(&sent).unwrap().subject().unwrap().to_owned();
    assert_eq!(subject, "talk <1>.mp4: 2 people: First sad, then happy; Mostly surprised (likely)");
    let body = |html: &str| outline(html.split("</head>").nth(1).unwrap());
    for told in [body(&html), body(&mail_html), text] {
        let place = |piece: &str| told.find(piece).unwrap_or_else(|| panic!("{piece}: {told}"));
        assert!(place("Person 1") < place("First sad, then happy"), "{told}");
        assert!(place("Person 2") < place("Mostly surprised"), "{told}");
        assert!(!told.contains("Mostly happy"), "{told}");
    }
    // The average is there for those who open it.
    let details = html.split("<details>").nth(1).unwrap().split("</details>").next().unwrap();
    assert!(details.contains("All people together") && details.contains("Calmness"));
    assert!(!mail_html.contains("All people together"));
}

/// Made-up results with figures that are rounded in different directions. `tests/it/page/agreement.rs` compares real
/// ones, the page included.
fn rounded() -> Vec<(&'static str, Findings)> {
    let uneven = |mut findings: Findings, shift: f64| {
        for face in &mut findings.analysis.faces {
            face.calmness = 42.449 + shift;
            face.eye_contact = Some(14.949 + shift);
        }
        let summary = &mut findings.analysis.summary;
        summary.calmness = summary.calmness.map(|_| 42.449 + shift);
        summary.eye_contact = summary.eye_contact.map(|_| 14.949 + shift);
        summary.presence = summary.presence.map(|_| 61.4999 + shift);
        summary.model_confidence = summary.model_confidence.map(|_| 0.714_499);
        findings
    };
    let mut silent = sample::one();
    silent.analysis.speech = None;
    let mut old = sample::one();
    old.analysis.metrics_version = 1;
    old.analysis.faces[0].segments.clear();
    vec![
        ("one", sample::one()),
        ("two", sample::two()),
        ("gap", sample::gap()),
        ("short", sample::short()),
        ("long", sample::long()),
        ("alternating", sample::alternating()),
        ("brief", sample::brief()),
        ("silent", uneven(silent, 0.051)),
        ("old", uneven(old, 0.05)),
        ("rounded", uneven(sample::one(), 1.0)),
    ]
}

#[test]
fn figures_that_are_hard_to_round_agree_in_report_json_and_mail() {
    for (name, findings) in rounded() {
        let json = serde_json::to_value(&findings.analysis).unwrap();
        let html = outline(&page(&findings));
        let (text, mail_html) = bodies(&mail(&settings(), Message::Report(&findings)));
        let mail_html = outline(&mail_html);
        let is_in = |place: &str, told: &str, wanted: &str| {
            assert!(told.contains(wanted), "{name}: {wanted:?} is not in the {place}: {told}");
        };
        let figure = |value: &serde_json::Value, interval: &serde_json::Value, unit: fn(&str) -> String| {
            let whole = |value: &serde_json::Value| format!("{:.0}", value.as_f64().unwrap());
            match interval.as_array().map(|ends| (ends, ends[1].as_f64().unwrap() - ends[0].as_f64().unwrap())) {
                Some((_, ..=20.0)) | None => unit(&whole(value)),
                Some((_, ..=40.0)) => format!("about {}", unit(&whole(value))),
                Some((ends, ..=70.0)) => format!("{} to {}", whole(&ends[0]), unit(&whole(&ends[1]))),
                Some(_) => "too little data".to_owned(),
            }
        };
        let of_100 = |whole: &str| format!("{whole} of 100");
        let percent = |whole: &str| format!("{whole}%");
        for face in json["faces"].as_array().unwrap() {
            for share in face["emotions"].as_object().unwrap().values() {
                is_in("report", &html, &format!("{:.1}%", share.as_f64().unwrap()));
            }
            let calmness = figure(&face["calmness"], &face["intervals"]["calmness"], of_100);
            let eyes = figure(&face["eye_contact"], &face["intervals"]["eye_contact"], percent);
            is_in("report", &html, &calmness);
            is_in("report", &html, &eyes);
            if json["faces"].as_array().unwrap().len() > 1 {
                let line = format!("Calmness: {calmness}. Eye contact: {eyes}.");
                is_in("mail", &mail_html, &line);
                is_in("text", &text, &line);
            }
        }
        let summary = &json["summary"];
        let intervals = &summary["intervals"];
        for (label, key, unit) in [
            ("Overall", "overall_score", of_100 as fn(&str) -> String),
            ("Presence", "presence", of_100),
            ("Calmness", "calmness", of_100),
            ("Eye contact", "eye_contact", percent),
        ] {
            let wanted = figure(&summary[key], &intervals[key], unit);
            is_in("report", &html, &format!("dt: {label}\ndd: {wanted}"));
            if json["faces"].as_array().unwrap().len() == 1 {
                is_in("mail", &mail_html, &format!("{label}\ntd: {wanted}"));
                is_in("text", &text, &format!("{label:<25}{wanted}\n"));
            }
        }
        let sure = format!("{:.0}%", 100.0 * summary["model_confidence"].as_f64().unwrap());
        is_in("report", &html, &format!("dt: Model confidence\ndd: {sure}"));
    }
}

/// Writes a file below `target/`, for viewing.
fn keep(name: &str, bytes: &[u8]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/report-preview");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), bytes).unwrap();
}

#[test]
fn text_and_html_give_the_same_figures() {
    let figures = |text: &str| {
        let words = text.split(|c: char| c.is_whitespace() || ",;:()".contains(c));
        let mut figures: Vec<String> = words
            .map(|word| word.trim_end_matches('.'))
            .filter(|word| word.ends_with('%'))
            .map(str::to_owned)
            .collect();
        figures.sort();
        figures.dedup();
        figures
    };
    for (name, findings) in all() {
        let sent = mail(&settings(), Message::Report(&findings));
        let (text, html) = bodies(&sent);
        assert_eq!(figures(&text), figures(&outline(&html)), "{name}");

        let parsed = MessageParser::default().parse(&sent).unwrap();
        let mut shown = html.replace("&nbsp;", " ");
        for part in parsed.parts.iter().filter(|part| part.content_id().is_some()) {
            let cid = part.content_id().unwrap();
            assert!(shown.contains(&format!("cid:{cid}")), "{name}: {cid}");
            let file = format!("{name}-{}", part.attachment_name().unwrap());
            keep(&file, part.contents());
            shown = shown.replace(&format!("cid:{cid}"), &file);
        }
        assert!(!shown.contains("cid:"), "{name}: a picture is missing");
        keep(&format!("mail-{name}.html"), shown.as_bytes());
    }
}

#[test]
fn texts_of_others_are_escaped() {
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let mut settings = settings();
    settings.report.product = evil.to_owned();
    settings.report.greeting = evil.to_owned();
    settings.report.footer = evil.to_owned();
    settings.report.contact = evil.to_owned();
    settings.report.link_text = evil.to_owned();
    settings.report.link_url = format!("https://example.org/{evil}");
    let mut findings = sample::two();
    // Results of older versions have warnings without codes.
    findings.analysis.warning_codes = Vec::new();
    findings.analysis.warnings = vec![evil.to_owned()];
    findings.analysis.video.codec = evil.to_owned();
    findings.analysis.models[0].name = evil.to_owned();
    let result_url = Some(format!("https://example.org/{}", evil.replace(' ', "")));
    let context = Context { file_name: Some(evil.to_owned()), result_url, ..context() };

    let reporter = Reporter::new(&settings).unwrap();
    let page = reporter.html(&findings, &context).unwrap();
    let mailer = Mailer::new(&settings, reporter).unwrap().unwrap();
    let id = context.token;
    let report = mailer.compose(id, "anna@example.org", Message::Report(&findings), &context);
    let failure = mailer.compose(id, "anna@example.org", Message::Failure { reason: None, detail: evil }, &context);
    for html in [page, bodies(&report).1, bodies(&failure).1] {
        assert!(html.contains("alert(1)"));
        assert!(!html.contains("<script") && !html.contains("<img src=x") && !html.contains("\"'>"), "{html}");
    }
}

#[test]
fn only_web_addresses_become_links() {
    for url in ["javascript:alert(1)", "data:text/html,x", "https://example.org/a b"] {
        let context = Context { result_url: Some(url.to_owned()), ..context() };
        let html = Reporter::new(&settings()).unwrap().html(&sample::one(), &context).unwrap();
        assert!(!html.contains(url), "{url}");
    }
}

#[test]
fn a_subject_cannot_inject_headers() {
    let mut settings = settings();
    settings.mail.subject = "{product}\r\nBcc: mallory@example.org\n\n<b>".to_owned();
    let sent = mail(&settings, Message::Report(&sample::one()));
    let parsed = MessageParser::default().parse(&sent).unwrap();
    assert_eq!(parsed.subject(), Some("visage Bcc: mallory@example.org <b>"));
    assert!(parsed.bcc().is_none());
}

#[test]
fn page_and_mail_contain_the_logo() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 40"><circle cx="20" cy="20" r="18" fill="#333"/><rect x="46" y="8" width="70" height="24"/></svg>"##,
    )
    .unwrap();
    let mut settings = settings();
    settings.report.logo = file.path().to_str().unwrap().to_owned();
    settings.report.accent = "#ffd166".to_owned();
    settings.report.contact = "Questions? Write to help@visage.example.".to_owned();
    settings.report.link_text = "Privacy".to_owned();
    settings.report.link_url = "https://visage.example/privacy".to_owned();
    let html = Reporter::new(&settings).unwrap().html(&sample::one(), &context()).unwrap();
    keep("branded.html", html.as_bytes());
    assert!(html.contains(r#"<img src="data:image/svg+xml;base64,"#) && html.contains(r#"alt="visage""#));
    let sent = mail(&settings, Message::Report(&sample::one()));
    let parsed = MessageParser::default().parse(&sent).unwrap();
    let logo = parsed.parts.iter().find(|part| part.attachment_name() == Some("logo.png")).unwrap();
    assert!(logo.contents().starts_with(b"\x89PNG"));
    let (text, html) = bodies(&sent);
    assert!(text.contains("Questions?") && text.contains("Privacy: https://visage.example/privacy"));
    keep("mail-branded.html", html.as_bytes());
    assert!(html.contains(&format!("cid:{}", logo.content_id().unwrap())));
}

#[test]
fn a_mail_about_many_people_stays_small() {
    let mut findings = sample::one();
    let (face, rows) = (findings.analysis.faces[0].clone(), findings.timeline.rows.clone());
    for id in 2..=40 {
        findings.analysis.faces.push(crate::analysis::FaceSummary { id, frames: 100 - id, ..face.clone() });
        findings.timeline.rows.extend(rows.iter().map(|row| crate::analysis::TimelineRow { face: id, ..row.clone() }));
    }
    let sent = mail(&settings(), Message::Report(&findings));
    assert!(sent.len() < 60_000, "{} bytes", sent.len());
    let (text, _) = bodies(&sent);
    assert!(text.contains("Person 2:") && !text.contains("Person 1:") && text.contains("36 more people were"));
    let html = page(&findings);
    assert!(html.len() < 600_000 && html.contains("28 more people were"));
}
