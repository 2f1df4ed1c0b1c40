//! The documentation page.

use crate::support::browser::Browser;
use crate::support::service::Service;

/// Calls with a form, a JSON body, parameters with choices, no body, and a picture.
const CALLS: [&str; 6] = [
    "native-analyze_video",
    "native-list_analyses",
    "native-start_analysis",
    "native-erase",
    "compat-save_frame",
    "thumbnails-logs",
];

/// Opens the page and waits until it is drawn and repaired.
async fn open(service: &Service, width: u32) -> Browser {
    let browser = Browser::open(width, 900, &[]).await;
    browser.goto(&format!("{}/docs", service.base)).await;
    browser.until("the calls", "document.querySelectorAll('.opblock').length > 30").await;
    browser.until("the repairs", "document.querySelector('#servers')?.ariaLabel === 'Server'").await;
    browser
}

/// Shows only this call, opened and ready to be sent. Axe needs its time for each call.
async fn show(browser: &Browser, call: &str) {
    let hide = "document.querySelectorAll('.opblock').forEach((call) => { call.style.display = call.id === \
                `operations-NAME` ? '' : 'none'; })";
    browser.eval(&hide.replace("NAME", call)).await;
    browser.click(&format!("#operations-{call} .opblock-summary-control")).await;
    browser.click(&format!("#operations-{call} .try-out__btn")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_page_can_be_used_with_keyboard_and_screen_reader() {
    let service = Service::start(|_| ()).await;
    let browser = open(&service, 1280).await;
    browser.picture("docs").await;
    browser.check_accessibility("the documentation page").await;
    for call in CALLS {
        show(&browser, call).await;
        browser.settle().await;
        browser.check_accessibility(call).await;
        // The schema of the body and of each answer.
        browser.eval("document.querySelectorAll('.tabitem:not(.active) button').forEach((tab) => tab.click())").await;
        browser.settle().await;
        browser.check_accessibility(&format!("{call} with schemas")).await;
        browser.click(&format!("#operations-{call} .opblock-summary-control")).await;
    }
    browser.click(".btn.authorize").await;
    browser.until("the dialog", "document.querySelector('.close-modal')?.ariaLabel === 'Close'").await;
    browser.check_accessibility("the dialog for keys").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_page_is_accessible_on_a_phone() {
    let service = Service::start(|_| ()).await;
    let browser = open(&service, 390).await;
    browser.check_accessibility("the documentation page on a phone").await;
    show(&browser, "native-analyze_video").await;
    browser.settle().await;
    browser.picture("docs-phone").await;
    browser.check_accessibility("a call on a phone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_on_the_documentation_page_has_named_buttons() {
    let service = Service::start(|_| ()).await;
    let browser = open(&service, 1280).await;
    show(&browser, "operations-healthz").await;
    browser.click("#operations-operations-healthz .execute").await;
    browser.until("the answer", "document.querySelector('.live-responses-table .response-col_status')").await;
    browser.until("the names", "document.querySelector('.copy-to-clipboard button')?.ariaLabel === 'Copy'").await;
    browser.check_accessibility("an answer").await;
}
