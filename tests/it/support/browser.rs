//! A browser that the tests drive: Debian's Chromium, without a window, by its WebDriver. One at a time, since each wants a
//! core and some hundred megabytes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::prelude::*;
use tokio::sync::{Mutex, MutexGuard};

static ONE: Mutex<()> = Mutex::const_new(());

/// A browser window; closed by [`Browser::close`], or when the driver ends with this.
pub struct Browser {
    pub driver: WebDriver,
    process: Child,
    _profile: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Of this size in CSS pixels, with further arguments for Chromium.
    pub async fn open(width: u32, height: u32, arguments: &[String]) -> Self {
        let turn = ONE.lock().await;
        let (process, port) = start_driver();
        let profile = tempfile::tempdir().unwrap();
        let mut capabilities = DesiredCapabilities::chrome();
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
            "--autoplay-policy=no-user-gesture-required",
            "--lang=en-GB",
        ] {
            capabilities.add_arg(argument).unwrap();
        }
        capabilities.add_arg(&format!("--window-size={width},{height}")).unwrap();
        capabilities.add_arg(&format!("--user-data-dir={}", profile.path().display())).unwrap();
        for argument in arguments {
            capabilities.add_arg(argument).unwrap();
        }
        let preferences = json!({
            "intl.accept_languages": "en-GB,en",
            "download.default_directory": profile.path(),
            "download.prompt_for_download": false,
        });
        capabilities.add_experimental_option("prefs", preferences).unwrap();
        let driver = WebDriver::new(&format!("http://127.0.0.1:{port}"), capabilities).await.expect("Chromium starts");
        let browser = Self { driver, process, _profile: profile, _turn: turn };
        browser.resize(width, height).await;
        browser
    }

    /// The page's own size, whatever a window needs around it.
    pub async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let url = format!(
            "{}session/{}/goog/cdp/execute",
            self.driver.handle().server_url(),
            self.driver.handle().session_id()
        );
        let body = json!({"cmd": command, "params": parameters});
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer: Value = client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
        assert!(answer["value"].get("error").is_none(), "{command}: {answer}");
        answer["value"].clone()
    }

    /// What a script returns.
    pub async fn eval(&self, script: &str) -> Value {
        self.driver.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}")).json().clone()
    }

    /// Waits until a script returns something true.
    pub async fn until(&self, what: &str, condition: &str) {
        for _ in 0..1200 {
            if let Ok(answer) = self.driver.execute(format!("return {condition}"), Vec::new()).await {
                let answer = answer.json();
                if !(answer.is_null() || *answer == json!(false) || *answer == json!("") || *answer == json!(0)) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.picture("given-up").await;
        panic!("{what} does not come; the page says: {}", self.text("body").await);
    }

    pub async fn find(&self, selector: &str) -> WebElement {
        let found = self.driver.query(By::Css(selector)).wait(Duration::from_secs(20), Duration::from_millis(50));
        found.first().await.unwrap_or_else(|error| panic!("{selector}: {error}"))
    }

    /// Clicks what a person can see and reach.
    pub async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        element.wait_until().displayed().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
        element.scroll_into_view().await.unwrap();
        element.click().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    pub async fn text(&self, selector: &str) -> String {
        self.find(selector).await.text().await.unwrap()
    }

    pub async fn is_shown(&self, selector: &str) -> bool {
        let script = format!("const e = document.querySelector({selector:?}); return !!e && e.checkVisibility();");
        self.eval(&script).await == json!(true)
    }

    /// Gives a file to the page, as the dialog of the system would.
    pub async fn choose(&self, selector: &str, file: &Path) {
        // The driver types only into what can be typed into.
        let input = self.find(selector).await;
        input.send_keys(file.canonicalize().unwrap().to_str().unwrap()).await.unwrap();
    }

    /// Presses a key, to whatever has the focus.
    pub async fn press(&self, key: Key) {
        self.driver.active_element().await.unwrap().send_keys(key + "").await.unwrap();
    }

    /// Keeps a picture of the whole page below `target/screens`, for eyes.
    pub async fn picture(&self, name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screens");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        let height = self.eval("return document.documentElement.scrollHeight").await.as_u64().unwrap();
        let width = self.eval("return innerWidth").await.as_u64().unwrap();
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.devtools("Page.captureScreenshot", parameters).await;
        use base64::Engine as _;
        let png = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(&path, png).unwrap();
        path
    }

    /// What keeps people from using the page as it is now, by axe-core: nothing, or the test fails.
    pub async fn has_no_barrier(&self, where_: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/axe.min.js");
        let axe = std::fs::read_to_string(script).expect("scripts/install-test-deps.sh fetches axe-core");
        self.driver.execute(axe, Vec::new()).await.unwrap();
        let run = "const done = arguments[arguments.length - 1]; axe.run(document).then((found) => done(found.violations.map((rule) => \
                   `${rule.id}: ${rule.help}: ${rule.nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`)), (error) => done([String(error)]))";
        let found = self.driver.execute_async(run, Vec::new()).await.unwrap();
        assert_eq!(*found.json(), json!([]), "{where_}");
    }

    pub async fn close(self) {
        let Self { driver, mut process, .. } = self;
        let _ = driver.quit().await;
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// Starts the WebDriver on a port that it chooses.
fn start_driver() -> (Child, u16) {
    let mut process = Command::new("chromedriver")
        .args(["--port=0", "--log-level=SEVERE"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("scripts/install-test-deps.sh installs chromium and chromium-driver");
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        if let Some(rest) = line.split("started successfully on port ").nth(1) {
            let port = rest.trim_end_matches('.').trim().parse().unwrap();
            return (process, port);
        }
    }
    panic!("chromedriver says no port");
}
