//! A long video on the page: player, timeline, table and report show the same runs.

use serde_json::{Value, json};

use super::service;
use crate::support::browser::{Browser, RIGHT};
use crate::support::clips::{self, Clips};

/// Left and right edge of each part of a strip, in percent of its width.
fn edges(strip: &str, parts: &str) -> String {
    format!(
        "return [...document.querySelectorAll('{strip} {parts}')].map((run) => \
         [run.className.match(/e-(\\w+)/)[1], parseFloat(run.style.left), \
         parseFloat(run.style.left) + parseFloat(run.style.width)])"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_of_six_and_a_half_minutes_shows_the_same_runs_everywhere() {
    let made = Clips::new();
    std::os::unix::fs::symlink(clips::shared("sad_then_happy.mp4"), made.path("turns.mp4")).unwrap();
    let clip = made.make("long.mp4", "-stream_loop 19 -i $turns.mp4 -c copy -t 390");
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let token = service.accept(std::fs::read(&clip).unwrap()).await;
    let job = service.finished(token).await;
    drop(working);
    let face = &job["analysis"]["faces"][0];
    let duration_s = job["analysis"]["video"]["duration_s"].as_f64().unwrap();
    let runs: Vec<(String, f64, f64)> = face["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            let percent = |key: &str| run[key].as_f64().unwrap() / duration_s * 100.0;
            (run["emotion"].as_str().unwrap().to_owned(), percent("start_s"), percent("end_s"))
        })
        .collect();
    assert!(runs.len() > 30, "twenty times sad, then happy: {runs:?}");

    let browser = Browser::open(1280, 860, &[]).await;
    browser.goto(&format!("{}/results/{token}", service.base)).await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    for (strip, parts) in [(".story .ribbon", "span"), (".segments", "button")] {
        let drawn: Vec<(String, f64, f64)> = serde_json::from_value(browser.eval(&edges(strip, parts)).await).unwrap();
        assert_eq!(drawn.len(), runs.len(), "{strip}");
        for (drawn, run) in drawn.iter().zip(&runs) {
            let is_same = drawn.0 == run.0 && (drawn.1 - run.1).abs() < 0.01 && (drawn.2 - run.2).abs() < 0.01;
            assert!(is_same, "{strip}: {drawn:?} is not {run:?}");
        }
    }
    let samples = "return [...document.querySelectorAll('.person tbody tr')].reduce((sum, row) => \
                   sum + +row.cells[2].innerText, 0)";
    assert_eq!(browser.eval(samples).await.as_f64(), face["frames"].as_f64());

    // She laughs in less than half of the time, so laughing is above her usual level in each of the twenty turns.
    let rises = face["relative"]["rises"].as_array().unwrap();
    let laughs = rises.iter().filter(|rise| rise["emotion"] == "happy").count();
    assert!((15..=25).contains(&laughs), "{rises:?}");
    let listed = browser.text(".person .rises").await;
    let more = format!("{} more", rises.len() - 5);
    assert!(listed.lines().count() == 6 && listed.contains(&more) && listed.contains("Happy"), "{listed}");

    // A label is whole, or hidden if its run is too short for it.
    for run in [".story .ribbon span", ".segments button"] {
        let labels = format!(
            "const run = document.querySelector('{run}'); return [6, 30, 50, 70, 300].map((width) => {{ \
             run.style.width = `${{width}}px`; const text = document.createRange(); text.selectNodeContents(run); \
             const [inner, outer] = [text, run].map((part) => part.getBoundingClientRect()); \
             return inner.top >= outer.bottom - 1 ? 'hidden' : inner.right <= outer.right ? 'whole' : 'cut'; }})"
        );
        let labels: Vec<String> = serde_json::from_value(browser.eval(&labels).await).unwrap();
        let width = browser
            .eval(&format!(
                "const run = document.querySelector('{run}'); run.style.width = '2px'; return run.clientWidth"
            ))
            .await;
        assert_eq!(width, json!(2), "{run}: a gap hides a short run");
        let is_right = labels[0] == "hidden" && labels[4] == "whole" && !labels.contains(&"cut".to_owned());
        assert!(is_right, "{run}: {labels:?}");
    }

    // A strip is one stop of the keyboard, however many runs it has.
    assert_eq!(
        browser.eval("return document.querySelectorAll('.segments button[tabindex=\"0\"]').length").await,
        json!(1)
    );
    browser.eval("document.querySelector('.segments button').focus()").await;
    browser.press(RIGHT).await;
    browser.press(RIGHT).await;
    let focused = "return [...document.querySelectorAll('.segments button')].indexOf(document.activeElement)";
    assert_eq!(browser.eval(focused).await, json!(2));

    // The label on the face, the text below the chart and the strip name the same expression.
    browser.choose(".player input[type=file]", &clip).await;
    browser.until("the video", "document.querySelector('.player video').readyState >= 2").await;
    for at in [0, 7, 20, runs.len() - 1] {
        let name = browser
            .eval(&format!(
                "const run = document.querySelectorAll('.segments button')[{at}]; run.click(); return run.textContent"
            ))
            .await;
        let name = name.as_str().unwrap();
        let moved = format!(
            "Math.abs(document.querySelector('.player video').currentTime - {}) < 0.1 && \
             !document.querySelector('.player video').seeking",
            runs[at].1 / 100.0 * duration_s
        );
        browser.until(&format!("run {at}"), &moved).await;
        for place in [".player .boxes text", ".readout"] {
            let shows = format!("document.querySelector({place:?})?.textContent.includes({name:?})");
            browser.until(&format!("{name} in {place} at run {at}"), &shows).await;
        }
    }
    browser.picture("long").await;
    browser.check_accessibility("a long result").await;

    browser.goto(&format!("{}/results/{token}/report", service.base)).await;
    browser.resize(390, 844).await;
    let fits = "return Math.max(...[...document.querySelectorAll('table, svg, dd')].map((part) => \
                part.getBoundingClientRect().right)) <= 390";
    assert_eq!(browser.eval(fits).await, json!(true), "the report on a phone");
    browser.check_accessibility("the report of a long video").await;
    let drawn = "return [...document.querySelector('svg.course').querySelectorAll('path')].reduce((sum, path) => \
                 sum + path.getAttribute('d').match(/M/g).length, 0)";
    assert_eq!(browser.eval(drawn).await, json!(runs.len()), "the ribbon of the report");
    let rows = |table: usize| {
        format!("return document.querySelectorAll('.person table')[{table}].querySelectorAll('tbody tr').length")
    };
    let listed = browser.eval(&rows(1)).await;
    assert_eq!(browser.eval(&rows(2)).await, json!(10), "the rises");
    let told = browser.text(".person").await;
    let unlisted = format!("{} shorter spans are not listed", runs.len() as u64 - listed.as_u64().unwrap());
    assert!(told.contains(&unlisted), "{unlisted}: {told}");
    let facts: Value = browser.eval("return document.querySelector('#facts').parentElement.innerText").await;
    assert!(facts.as_str().unwrap().contains("6 min 30 s"), "{facts}");
}
