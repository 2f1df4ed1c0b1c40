//! Several people in a result, their names, and the results of this browser.

use serde_json::{Value, json};

use super::{analyzed, result_of, service};
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};

#[tokio::test(flavor = "multi_thread")]
async fn each_of_five_people_has_a_line_a_picture_and_a_label_of_its_own() {
    let made = Clips::new();
    std::os::unix::fs::symlink(clips::shared("multi_face.jpg"), made.path("people.jpg")).unwrap();
    let clip =
        made.make("people.mp4", "-loop 1 -i $people.jpg -t 2 -r 10 -vf scale=960:-2 -c:v libx264 -pix_fmt yuv420p");
    let (_models, service, browser) = analyzed(&clip).await;
    assert_eq!(browser.text(".story h1").await, "5 people");
    for n in 1..=5 {
        let line = browser.text(&format!("[data-line='{n}']")).await;
        assert!(line.contains(&format!("Person {n}")) && line.contains("happy"), "{line}");
        assert!(browser.is_shown(&format!("[data-line='{n}'] .ribbon span")).await);
    }
    // An average of all is there only for those who ask for it.
    assert!(!browser.is_shown("#average .shares").await && !browser.is_shown("#averages .tile").await);
    browser.click("#average summary").await;
    assert!(browser.is_shown("#average .shares").await);

    browser
        .until("the pictures", "document.querySelectorAll('.lines img.badge, .person img.badge').length === 10")
        .await;
    let pictures =
        browser.eval("return [...document.querySelectorAll('.lines img.badge')].map((img) => img.src)").await;
    let pictures: std::collections::HashSet<String> = serde_json::from_value(pictures).unwrap();
    assert_eq!(pictures.len(), 5, "each shows another face");
    let overlaps = "return (() => { const boxes = [...document.querySelectorAll('.player .boxes .fill')].map((label) => label.getBoundingClientRect()); \
                    const screen = document.querySelector('.player .screen').getBoundingClientRect(); \
                    const over = boxes.flatMap((a, n) => boxes.slice(n + 1).filter((b) => a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5)); \
                    const out = boxes.filter((a) => a.left < screen.left - 1 || a.right > screen.right + 1 || a.top < screen.top - 1 || a.bottom > screen.bottom + 1); \
                    return [boxes.length, over.length, out.length]; })()";
    for (width, height) in [(1440, 900), (1280, 860), (820, 1100), (390, 844)] {
        browser.resize(width, height).await;
        browser.settle().await;
        assert_eq!(browser.eval(overlaps).await, json!([5, 0, 0]), "{width}");
        browser.picture(&format!("five-people-{width}")).await;
    }
    browser.check_accessibility("five people on a phone").await;
    browser.resize(1280, 860).await;

    // A name stands everywhere, and a hidden person nowhere.
    browser.click("#rename-2").await;
    browser.write("[data-person='2'] .who input", "Anna\u{e007}").await;
    browser.until("the name", "document.querySelector('[data-line=\"2\"]').textContent.includes('Anna')").await;
    for place in [".player .boxes", ".readout", ".lanes", "[data-person='2']"] {
        let text = browser.eval(&format!("return document.querySelector({place:?}).textContent")).await;
        assert!(text.as_str().unwrap().contains("Anna"), "{place}: {text}");
    }
    assert_eq!(browser.eval("return document.activeElement.id").await, json!("rename-2"), "the focus stays");
    browser.click("[data-person='3'] .tools .button:last-child").await;
    browser.until("the person is hidden", "!document.querySelector('[data-person=\"3\"]')").await;
    for gone in ["[data-line='3']", "[data-person='3']"] {
        assert!(!browser.is_shown(gone).await, "{gone}");
    }
    assert_eq!(browser.eval("return document.querySelectorAll('.player .boxes .edge').length").await, json!(4));
    browser.picture("renamed-and-hidden").await;
    browser.check_accessibility("a renamed and a hidden person").await;
    browser.refresh().await;
    browser
        .until("the name after a reload", "document.querySelector('[data-line=\"2\"]')?.textContent.includes('Anna')")
        .await;
    assert!(!browser.is_shown("[data-person='3']").await);
    browser.click("#show-hidden").await;
    browser.until("everybody", "document.querySelectorAll('[data-person]').length === 5").await;
    // Nothing of it reached the service.
    let token = super::token(&browser).await;
    let job = service.get(&format!("/results/{token}")).await.text().await.unwrap();
    assert!(!job.contains("Anna"), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ribbon_is_empty_while_the_face_is_away() {
    let (_models, service, browser) = analyzed(&clips::shared("face_then_none.mov")).await;
    let token = super::token(&browser).await;
    let job: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    let face = &job["analysis"]["faces"][0];
    let seen: f64 = face["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["end_s"].as_f64().unwrap() - run["start_s"].as_f64().unwrap())
        .sum();
    let share = seen / job["analysis"]["video"]["duration_s"].as_f64().unwrap();
    assert!(share < 0.9, "the face leaves: {share}");
    let drawn = "return [...document.querySelectorAll('.story .ribbon span')].reduce((sum, run) => sum + run.offsetWidth, 0) \
                 / document.querySelector('.story .ribbon').clientWidth";
    let drawn = browser.eval(drawn).await.as_f64().unwrap();
    assert!((drawn - share).abs() < 0.02, "{drawn} of {share}");
    browser.picture("face-that-leaves").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_results_of_this_browser_are_listed_and_compared() {
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let browser = Browser::open(1280, 860, &[]).await;
    browser.goto(&service.base).await;
    assert!(!browser.is_shown("#library").await, "an empty list is not shown");
    for clip in ["single_face.mp4", "sad_then_happy.mp4"] {
        result_of(&browser, &service.base, &clips::shared(clip)).await;
    }
    drop(working);
    browser.goto(&service.base).await;
    browser.until("the list", "document.querySelectorAll('#library li').length === 2").await;
    let list = browser.text("#library").await;
    assert!(list.contains("single_face.mp4") && list.contains("First sad, then happy"), "{list}");
    browser.picture("library").await;
    browser.check_accessibility("the list of results").await;
    assert_eq!(browser.eval("return document.querySelector('#compare-go').disabled").await, json!(true));
    browser.eval("for (const box of document.querySelectorAll('#library input')) box.click()").await;
    browser.click("#compare-go").await;
    browser.until("the comparison", "document.querySelector('#compare table')").await;
    for (width, height) in [(1280, 860), (390, 844)] {
        browser.resize(width, height).await;
        browser.picture(&format!("compare-{width}")).await;
        assert_eq!(browser.eval("return document.documentElement.scrollWidth <= innerWidth").await, json!(true));
        browser.check_accessibility("a comparison").await;
    }
    // The verdicts follow from the intervals in the JSON.
    let tokens = browser.eval("return location.hash.slice('#compare='.length).split(',')").await;
    let mut eye_contact = Vec::new();
    for token in serde_json::from_value::<Vec<String>>(tokens).unwrap() {
        let job: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
        let interval = job["analysis"]["faces"][0]["intervals"]["eye_contact"].clone();
        eye_contact.push(serde_json::from_value::<[f64; 2]>(interval).unwrap());
    }
    let verdict = match (eye_contact[0], eye_contact[1]) {
        ([low, _], [_, high]) if low > high => "first",
        ([_, high], [low, _]) if low > high => "second",
        _ => "same",
    };
    let row =
        "[...document.querySelectorAll('#compare tbody tr')].find((row) => row.cells[0].textContent === 'Eye contact')";
    assert_eq!(browser.eval(&format!("return {row}.dataset.verdict")).await, json!(verdict));
    assert_ne!(verdict, "same", "these two clips differ");
    // Removing an entry keeps the result; the list is in this browser alone.
    browser.goto(&format!("{}/?", service.base)).await;
    browser.click("#library li .button").await;
    browser.until("one is left", "document.querySelectorAll('#library li').length === 1").await;
    browser.click("#library-clear").await;
    browser.click("dialog[open] .danger").await;
    browser.until("none is left", "document.querySelector('#library').hidden").await;
    assert_eq!(browser.eval("return document.cookie").await, json!(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_printed_without_buttons() {
    let (_models, _service, browser) = analyzed(&clips::shared("sad_then_happy.mp4")).await;
    assert!(browser.is_shown("[data-action=print]").await);
    let sheets = super::paper::sheets(&browser, "page-on-paper").await;
    let text: String = sheets.iter().map(|sheet| sheet.text.as_str()).collect();
    for wanted in ["First sad, then happy", "Timeline", "Eye contact", "Person 1", "Known limits"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    for unwanted in ["Rename", "Erase everything", "Save this frame", "What is this?"] {
        assert!(!text.contains(unwanted), "{unwanted}: {text}");
    }
    assert!((2..=5).contains(&sheets.len()), "{} sheets", sheets.len());
}
