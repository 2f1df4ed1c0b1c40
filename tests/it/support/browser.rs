//! Controls headless Chromium by WebDriver (W3C). One browser runs at a time, because each needs a core and some
//! hundred megabytes.
//!
//! The few commands are implemented here. The crates for WebDriver (thirtyfour, fantoccini) enable features of
//! `serde_json` that change the order of members in the answers of the service, so that tests would not test the
//! service as it is built.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

static ONE: Mutex<()> = Mutex::const_new(());

/// Keys as WebDriver names them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const RIGHT: &str = "\u{e014}";

/// A browser window; it ends when dropped.
pub struct Browser {
    http: Client,
    /// `http://127.0.0.1:PORT/session/ID`
    session: String,
    process: Child,
    profile: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Opens a window of this size in CSS pixels, with further arguments for Chromium.
    pub async fn open(width: u32, height: u32, arguments: &[String]) -> Self {
        let turn = ONE.lock().await;
        let http = super::http();
        // The start is repeated for two reasons. On a busy machine the browser may start too late for the driver. And
        // the driver ends if the port that it chose for IPv4 is in use for IPv6.
        let mut tries = 0;
        let (process, session, profile) = loop {
            let profile = tempfile::tempdir().unwrap();
            let mut args: Vec<String> = [
                "--headless=new",
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--no-first-run",
                "--hide-scrollbars",
                "--autoplay-policy=no-user-gesture-required",
                "--lang=en-GB",
            ]
            .map(str::to_owned)
            .into();
            args.push(format!("--window-size={width},{height}"));
            args.push(format!("--user-data-dir={}", profile.path().display()));
            args.extend_from_slice(arguments);
            let prefs = json!({"intl.accept_languages": "en-GB,en", "download.default_directory": profile.path()});
            let options = json!({"args": args, "prefs": prefs});
            let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}});
            match begin(&http, wanted).await {
                Ok((process, session)) => break (process, session, profile),
                Err(error) => assert!(tries < 4, "Chromium does not start: {error}"),
            }
            tries += 1;
        };
        let browser = Self { http, session, process, profile, _turn: turn };
        browser.resize(width, height).await;
        browser
    }

    /// Sends one command. Returns the driver's error message if it fails.
    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        ask(&self.http, method, &format!("{}{path}", self.session), body).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub async fn goto(&self, url: &str) {
        self.post("/url", json!({"url": url})).await;
    }

    pub async fn refresh(&self) {
        self.post("/refresh", json!({})).await;
    }

    /// Sets the size of the page without the window frame.
    pub async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Sends a command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// Runs a script and returns its result.
    pub async fn eval(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true.
    pub async fn until(&self, what: &str, condition: &str) {
        let script = json!({"script": format!("return !!({condition})"), "args": []});
        for _ in 0..1200 {
            if self.ask(Method::POST, "/execute/sync", script.clone()).await == Ok(json!(true)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.picture("given-up").await;
        panic!("timeout: {what}; the text of the page: {}", self.text("body").await);
    }

    /// Waits for an element and returns its path.
    async fn find(&self, selector: &str) -> String {
        let wanted = json!({"using": "css selector", "value": selector});
        for _ in 0..400 {
            if let Ok(found) = self.ask(Method::POST, "/element", wanted.clone()).await {
                let id = found.as_object().unwrap().values().next().unwrap();
                return format!("/element/{}", id.as_str().unwrap());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("there is no {selector}");
    }

    /// Waits until an element is visible and clicks it. Finds it again if the page has replaced it in the meantime.
    pub async fn click(&self, selector: &str) {
        self.until(selector, &format!("document.querySelector({selector:?})?.checkVisibility()")).await;
        loop {
            let element = self.find(selector).await;
            match self.ask(Method::POST, &format!("{element}/click"), json!({})).await {
                Ok(_) => return,
                Err(error) if error.contains("stale element") => {}
                Err(error) => panic!("{selector}: {error}"),
            }
        }
    }

    /// Waits until all animations have ended and the browser has drawn two more frames, so that it has reported all
    /// layout shifts.
    pub async fn settle(&self) {
        let script = "const done = arguments[arguments.length - 1]; const frame = () => new Promise((resolve) => \
                      requestAnimationFrame(resolve)); const finite = (animation) => \
                      animation.effect.getComputedTiming().endTime !== Infinity; const ends = \
                      document.getAnimations().filter(finite).map((animation) => animation.finished.catch(() => {})); \
                      Promise.all(ends).then(frame).then(frame).then(() => setTimeout(done))";
        self.post("/execute/async", json!({"script": script, "args": []})).await;
    }

    /// Types into a field.
    pub async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("{element}/value"), json!({"text": text})).await;
    }

    /// Chooses a file, as the file dialog does.
    pub async fn choose(&self, selector: &str, file: &Path) {
        self.write(selector, file.canonicalize().unwrap().to_str().unwrap()).await;
    }

    /// Presses a key in the focused element.
    pub async fn press(&self, key: &str) {
        let stroke = ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key}));
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": stroke});
        self.post("/actions", json!({"actions": [keyboard]})).await;
    }

    /// Returns the visible text of an element.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("return document.querySelector({selector:?}).innerText")).await;
        text.as_str().unwrap().to_owned()
    }

    pub async fn is_shown(&self, selector: &str) -> bool {
        self.eval(&format!("return !!document.querySelector({selector:?})?.checkVisibility()")).await == json!(true)
    }

    /// Stores a screenshot of the whole page in `target/screens` for inspection.
    pub async fn picture(&self, name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screens");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        let size = self.eval("return [innerWidth, document.documentElement.scrollHeight]").await;
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.devtools("Page.captureScreenshot", parameters).await;
        std::fs::write(&path, STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
        path
    }

    /// Waits for a downloaded file whose name begins with `name`.
    pub async fn saved(&self, name: &str) -> PathBuf {
        for _ in 0..400 {
            let entries = std::fs::read_dir(self.profile.path()).unwrap().flatten();
            let mut paths = entries.map(|entry| entry.path());
            let is_it = |path: &PathBuf| {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                file.starts_with(name) && !file.ends_with(".crdownload")
            };
            if let Some(path) = paths.find(is_it) {
                return path;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {name} was saved");
    }

    /// Prints the page as PDF.
    pub async fn print(&self) -> Vec<u8> {
        let parameters = json!({"preferCSSPageSize": true, "printBackground": false});
        let printed = self.devtools("Page.printToPDF", parameters).await;
        STANDARD.decode(printed["data"].as_str().unwrap()).unwrap()
    }

    /// Checks the current page with axe-core. Fails the test if there is an accessibility problem.
    pub async fn check_accessibility(&self, place: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/axe.min.js");
        let axe = std::fs::read_to_string(script).expect("scripts/install-test-deps.sh fetches axe-core");
        self.eval(&axe).await;
        let run = "const done = arguments[arguments.length - 1]; axe.run(document).then((found) => \
                   done(found.violations.map((rule) => `${rule.id}: ${rule.help}: ${rule.nodes.map((node) => \
                   `${node.target} ${node.failureSummary}`).join('; ')}`)), (error) => done([String(error)]))";
        let found = self.post("/execute/async", json!({"script": run, "args": []})).await;
        assert_eq!(found, json!([]), "{place}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser only at this request, not when it is killed.
        let (http, session) = (self.http.clone(), self.session.clone());
        let leave = async move { http.delete(session).timeout(Duration::from_secs(10)).send().await.map(drop) };
        let ended = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(leave)
        });
        let _ = ended.join();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn ask(http: &Client, method: Method, url: &str, body: Value) -> Result<Value, String> {
    let mut request = http.request(method.clone(), url);
    if method == Method::POST {
        request = request.json(&body);
    }
    let response = request.send().await.map_err(|error| error.to_string())?;
    let is_good = response.status().is_success();
    let mut answer: Value = response.json().await.map_err(|error| error.to_string())?;
    if is_good { Ok(answer["value"].take()) } else { Err(answer["value"]["message"].to_string()) }
}

/// Starts a driver and a browser. Returns the address of the session.
async fn begin(http: &Client, wanted: Value) -> Result<(Child, String), String> {
    let (mut process, port) = start_driver();
    let begun = async {
        let base = format!("http://127.0.0.1:{}/session", port?);
        let begun = ask(http, Method::POST, &base, wanted).await?;
        Ok(format!("{base}/{}", begun["sessionId"].as_str().unwrap()))
    };
    let begun = begun.await;
    if begun.is_err() {
        let _ = process.kill();
        let _ = process.wait();
    }
    begun.map(|session| (process, session))
}

/// Starts the WebDriver and returns the port that it chose, or its output if that has no port.
fn start_driver() -> (Child, Result<u16, String>) {
    let mut process = Command::new("chromedriver")
        .args(["--port=0", "--log-level=SEVERE"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("scripts/install-test-deps.sh installs chromium and chromium-driver");
    let mut said = String::new();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        if let Some(rest) = line.split("started successfully on port ").nth(1) {
            return (process, Ok(rest.trim_end_matches('.').trim().parse().unwrap()));
        }
        said.push_str(&line);
        said.push('\n');
    }
    (process, Err(format!("chromedriver printed no port, but {said:?}")))
}
