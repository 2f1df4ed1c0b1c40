//! The mailed report in a mail reader: in wide and narrow windows, with and without pictures.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{MessageParser, MimeHeaders as _};

use crate::support::browser::Browser;
use crate::support::clips;

#[tokio::test(flavor = "multi_thread")]
async fn a_mailed_report_fits_wide_and_narrow_windows_with_and_without_pictures() {
    let clip = clips::shared("sad_then_happy.mp4");
    let models = clips::models();
    let service = super::service(&models).await;
    let working = service.work().await;
    let form = crate::support::service::video_form(std::fs::read(clip).unwrap()).text("email", "ann@example.org");
    assert_eq!(service.upload(form).await.status(), 202);
    let outbox = service.settings.mail.outbox.clone();
    let delivered = async {
        loop {
            let entries = std::fs::read_dir(&outbox).map_or_else(|_| vec![], |entries| entries.flatten().collect());
            if let Some(entry) = entries.iter().find(|entry| entry.path().extension().is_some_and(|end| end == "eml")) {
                return std::fs::read(entry.path()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let mail = tokio::time::timeout(Duration::from_secs(300), delivered).await.expect("no mail was delivered");
    drop(working);
    let parsed = MessageParser::default().parse(&mail).unwrap();
    let without = parsed.body_html(0).unwrap().into_owned();
    let mut with = without.clone();
    for part in parsed.parts.iter().filter(|part| part.content_id().is_some()) {
        let picture = format!("data:image/png;base64,{}", STANDARD.encode(part.contents()));
        with = with.replace(&format!("cid:{}", part.content_id().unwrap()), &picture);
    }
    let folder = tempfile::tempdir().unwrap();
    let browser = Browser::open(600, 800, &[]).await;
    for (name, html) in [("off", &without), ("on", &with)] {
        let file = folder.path().join(format!("{name}.html"));
        std::fs::write(&file, html).unwrap();
        for width in [600, 360] {
            browser.resize(width, 800).await;
            browser.goto(&format!("file://{}", file.display())).await;
            browser
                .until(&format!("{name} in {width}"), &format!("document.documentElement.scrollWidth == {width}"))
                .await;
            // Table cells show both expressions, so that they are visible without pictures.
            let colours =
                "return [...document.querySelectorAll('td[title]')].map((cell) => [cell.bgColor, cell.clientWidth])";
            let cells: Vec<(String, f64)> = serde_json::from_value(browser.eval(colours).await).unwrap();
            let share = |colour: &str| cells.iter().filter(|cell| cell.0 == colour).map(|cell| cell.1).sum::<f64>();
            let all: f64 = cells.iter().map(|cell| cell.1).sum();
            assert!(share("#0072b2") > 0.2 * all && share("#e69f00") > 0.3 * all, "{cells:?}");
            assert!(browser.text("body").await.contains("Happy"));
            browser.picture(&format!("mail-{name}-{width}")).await;
        }
    }
}
