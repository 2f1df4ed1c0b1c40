//! A browser that the tests drive: Debian's Chromium, without a window, by its WebDriver (W3C). One at a time, since each wants
//! a core and some hundred megabytes.
//!
//! The few commands are spoken here. The crates for it (thirtyfour, fantoccini) bring features of `serde_json` along that change
//! the order of members in the service's own answers, so that tests would look at another service than the one that is built.

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
    /// Of this size in CSS pixels, with further arguments for Chromium.
    pub async fn open(width: u32, height: u32, arguments: &[String]) -> Self {
        let turn = ONE.lock().await;
        let http = super::http();
        // On a busy machine the browser may come up too late for the driver, which then gives it up; and the driver ends at
        // once where the port that it chose for IPv4 is taken for IPv6.
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

    /// One command; the error as the driver tells it.
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

    /// The page's own size, whatever a window needs around it.
    pub async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// What a script returns.
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
        panic!("{what} does not come; the page says: {}", self.text("body").await);
    }

    /// Path of an element, once it is there.
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

    /// Clicks what a person can see and reach. What the page draws anew meanwhile is looked for again.
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

    /// Types into a field.
    pub async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("{element}/value"), json!({"text": text})).await;
    }

    /// Gives a file to the page, as the dialog of the system would.
    pub async fn choose(&self, selector: &str, file: &Path) {
        self.write(selector, file.canonicalize().unwrap().to_str().unwrap()).await;
    }

    /// Presses a key, to whatever has the focus.
    pub async fn press(&self, key: &str) {
        let stroke = ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key}));
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": stroke});
        self.post("/actions", json!({"actions": [keyboard]})).await;
    }

    /// What a person reads there.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("return document.querySelector({selector:?}).innerText")).await;
        text.as_str().unwrap().to_owned()
    }

    pub async fn is_shown(&self, selector: &str) -> bool {
        self.eval(&format!("return !!document.querySelector({selector:?})?.checkVisibility()")).await == json!(true)
    }

    /// Keeps a picture of the whole page below `target/screens`, for eyes.
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

    /// A file whose name begins so, once the page has handed it to the person.
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

    /// The page on paper, as the browser prints it.
    pub async fn print(&self) -> Vec<u8> {
        let parameters = json!({"preferCSSPageSize": true, "printBackground": false});
        let printed = self.devtools("Page.printToPDF", parameters).await;
        STANDARD.decode(printed["data"].as_str().unwrap()).unwrap()
    }

    /// What keeps people from using the page as it is now, by axe-core: nothing, or the test fails.
    pub async fn has_no_barrier(&self, place: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/axe.min.js");
        let axe = std::fs::read_to_string(script).expect("scripts/install-test-deps.sh fetches axe-core");
        self.eval(&axe).await;
        let run = "const done = arguments[arguments.length - 1]; axe.run(document).then((found) => done(found.violations.map((rule) => \
                   `${rule.id}: ${rule.help}: ${rule.nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`)), (error) => done([String(error)]))";
        let found = self.post("/execute/async", json!({"script": run, "args": []})).await;
        assert_eq!(found, json!([]), "{place}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver takes its browser with it when it is asked to, not when it is killed.
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

/// Starts a driver, and a browser by it: the address of its session.
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

/// Starts the WebDriver on a port that it chooses; what it says instead, if it says no port.
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
    (process, Err(format!("chromedriver names no port, but says {said:?}")))
}
