//! The report on screens and on paper (A4, printed by the browser).

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::service;
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};

/// Smallest distance of a word to the left and right edge, in points: the margin of 15 mm with some tolerance.
const MARGIN: f64 = 38.0;

/// The text of a sheet and the rectangles of its words.
pub(super) struct Sheet {
    pub(super) text: String,
    words: Vec<[f64; 4]>,
}

fn tool(name: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(name).args(arguments).arg(file).arg("-").output();
    let output = output.expect("scripts/install-test-deps.sh installs poppler-utils");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Prints the current page, stores pictures of the sheets in `target/screens`, and returns the sheets.
pub(super) async fn sheets(browser: &Browser, name: &str) -> Vec<Sheet> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.pdf");
    std::fs::write(&file, browser.print().await).unwrap();
    let screens = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screens");
    std::fs::create_dir_all(&screens).unwrap();
    let drawn = Command::new("pdftoppm").args(["-r", "80", "-png"]).arg(&file).arg(screens.join(name)).status();
    assert!(drawn.unwrap().success());
    let boxes = tool("pdftotext", &["-bbox"], &file);
    let text = tool("pdftotext", &["-layout"], &file);
    let pages = boxes.split("<page ").skip(1).zip(text.split('\u{c}'));
    pages
        .map(|(page, text)| {
            assert!(page.starts_with("width=\"594.9") || page.starts_with("width=\"595"), "A4: {}", &page[..60]);
            let number = |word: &str, key: &str| -> f64 {
                word.split(&format!("{key}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
            };
            let place = |word| ["xMin", "yMin", "xMax", "yMax"].map(|key| number(word, key));
            Sheet { text: text.to_owned(), words: page.split("<word ").skip(1).map(place).collect() }
        })
        .collect()
}

/// Asserts that no text is cut off, no chart is split, and no heading is the last line of a sheet.
async fn assert_layout(browser: &Browser, sheets: &[Sheet]) {
    let headings = browser.eval("return [...document.querySelectorAll('h2, h3')].map((h) => h.innerText)").await;
    let headings: Vec<String> = serde_json::from_value(headings).unwrap();
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let whole = plain(&sheets.iter().map(|sheet| sheet.text.as_str()).collect::<String>());
    for heading in &headings {
        assert!(whole.contains(&plain(heading)), "{heading} is missing");
    }
    for (n, sheet) in sheets.iter().enumerate() {
        assert!(sheet.words.len() > 20, "sheet {n} is almost empty: {}", sheet.text);
        for [left, top, right, bottom] in &sheet.words {
            let is_inside = *left >= MARGIN && *top >= 30.0 && *right <= 595.5 - MARGIN && *bottom <= 842.5 - 30.0;
            assert!(is_inside, "sheet {n}: {left} {top} {right} {bottom}");
        }
        let of = |text: &str| sheet.text.matches(text).count();
        let (begun, ended) = (of("Share of each expression over the time"), of("How pleasant the expression is"));
        assert_eq!(begun, ended, "sheet {n}: {}", sheet.text);
        let last = plain(sheet.text.lines().rfind(|line| !line.trim().is_empty()).unwrap());
        assert!(!headings.iter().any(|heading| last.contains(&plain(heading))), "sheet {n} ends with {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_fits_screens_and_prints_on_three_sheets() {
    let clip = clips::shared("sad_then_happy.mp4");
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let token = service.accept(std::fs::read(clip).unwrap()).await;
    service.finished(token).await;
    drop(working);
    let browser = Browser::open(1100, 860, &[]).await;
    let report = format!("{}/results/{token}/report", service.base);
    browser.goto(&report).await;
    assert_eq!(browser.text("h1").await, "First sad, then happy");
    browser.picture("report").await;
    browser.check_accessibility("the report").await;

    let sheets = sheets(&browser, "paper").await;
    assert_eq!(sheets.len(), 3);
    assert_layout(&browser, &sheets).await;
    let first = &sheets[0].text;
    assert!(
        first.contains("First sad, then happy") && first.contains("One thing to try"),
        "the headline, the figures and the advice are on the first sheet: {first}"
    );

    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.devtools("Emulation.setEmulatedMedia", dark).await;
    browser.resize(390, 844).await;
    browser.goto(&report).await;
    browser.picture("report-phone-dark").await;
    browser.check_accessibility("the report on a phone in dark mode").await;
    assert_eq!(browser.eval("return document.documentElement.scrollWidth <= innerWidth").await, json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_several_people_breaks_only_between_people() {
    let picture = clips::shared("multi_face.jpg");
    let models = clips::models();
    let made = Clips::new();
    std::os::unix::fs::symlink(&picture, made.path("people.jpg")).unwrap();
    let clip =
        made.make("people.mp4", "-loop 1 -i $people.jpg -t 4 -r 10 -vf scale=960:-2 -c:v libx264 -pix_fmt yuv420p");
    let service = service(&models).await;
    let working = service.work().await;
    let token = service.accept(std::fs::read(clip).unwrap()).await;
    let people = service.finished(token).await["analysis"]["faces"].as_array().unwrap().len();
    assert!(people > 1, "{people}");
    drop(working);
    let browser = Browser::open(1280, 860, &[]).await;
    browser.goto(&format!("{}/results/{token}/report", service.base)).await;
    let sheets = sheets(&browser, "paper-people").await;
    assert_layout(&browser, &sheets).await;
    assert!(sheets.len() <= 2 + people, "{} sheets for {people} people", sheets.len());
    browser.goto(&format!("{}/results/{token}", service.base)).await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    browser.picture("result-people").await;
    browser.check_accessibility("the result of several people").await;
}
