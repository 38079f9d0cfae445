//! A browser, driven by the Chrome `DevTools` Protocol over a pipe.
//!
//! Messages are JSON with a zero byte at the end. The browser reads them from descriptor 3 and writes to
//! descriptor 4, which a shell connects to its standard input and output.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The window and the preference of a person.
#[derive(Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

/// A page as a person meets it.
pub struct Page {
    pub title: String,
    /// The width of the content in CSS pixels.
    pub width: u32,
    /// The bytes of a picture of the page, in base64.
    pub picture: usize,
    pub is_dark: bool,
    /// The roles and names of the accessibility tree.
    nodes: Vec<(String, String)>,
}

impl Page {
    /// Returns the names of the nodes with a role.
    pub fn names(&self, role: &str) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(move |node| node.0 == role).map(|node| node.1.as_str())
    }

    /// Returns all texts of the page.
    pub fn text(&self) -> String {
        self.names("StaticText").collect::<Vec<_>>().join("\n")
    }
}

/// A running browser with one page.
pub struct Browser {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    number: u64,
    session: Value,
    /// The names of events since the last navigation.
    events: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    #[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
    pub fn start() -> Self {
        let program = std::env::var("KILN_PAGES_BROWSER");
        let program = program.expect("KILN_PAGES_BROWSER is not set; run `cargo xtask test`");
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh", &program])
            .args(["--remote-debugging-pipe", "--no-sandbox", "--no-zygote", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars=false"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It reports that it finds no bus and no graphics card.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let requests = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self {
            child,
            requests,
            answers,
            number: 0,
            session: Value::Null,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let target = &target["targetId"];
        let session =
            browser.call("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        browser.session = session["sessionId"].clone();
        browser.call("Page.enable", &json!({}));
        browser.call("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
        browser
    }

    /// Switches JavaScript on.
    pub fn allow_scripts(&mut self) {
        self.call("Emulation.setScriptExecutionDisabled", &json!({ "value": false }));
    }

    /// Opens a page and looks at it.
    pub fn open(&mut self, url: &str, look: Look) -> Page {
        let Look { width, height, dark } = look;
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
        self.events.clear();
        let started = self.call("Page.navigate", &json!({ "url": url }));
        assert_eq!(started["errorText"], Value::Null, "{url}");
        self.until("Page.loadEventFired");
        let metrics = self.call("Page.getLayoutMetrics", &json!({}));
        let content = metrics["cssContentSize"]["width"].as_f64().unwrap();
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let nodes: Vec<(String, String)> = nodes
            .filter(|node| node["ignored"] != true)
            .map(|node| (text(&node["role"]), text(&node["name"])))
            .collect();
        let title = nodes.iter().find(|node| node.0 == "RootWebArea").unwrap().1.clone();
        let picture = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let picture = picture["data"].as_str().unwrap().len();
        let is_dark = self.is_dark();
        Page { title, width: ceiling(content), picture, is_dark, nodes }
    }

    /// Returns true if the background of the body is dark.
    fn is_dark(&mut self) -> bool {
        self.call("DOM.enable", &json!({}));
        self.call("CSS.enable", &json!({}));
        let document = self.call("DOM.getDocument", &json!({}));
        let root = &document["root"]["nodeId"];
        let body = self.call("DOM.querySelector", &json!({ "nodeId": root, "selector": "body" }));
        let style = self.call("CSS.getComputedStyleForNode", &json!({ "nodeId": body["nodeId"] }));
        let style = style["computedStyle"].as_array().unwrap();
        let background = style.iter().find(|one| one["name"] == "background-color").unwrap();
        background["value"] == "rgb(22, 24, 27)"
    }

    /// Calls a method, and returns its result.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.requests.write_all(message.to_string().as_bytes()).unwrap();
        self.requests.write_all(&[0]).unwrap();
        loop {
            let answer = self.next();
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    fn until(&mut self, event: &str) {
        while !self.events.iter().any(|seen| seen == event) {
            self.next();
        }
    }

    fn next(&mut self) -> Value {
        let mut message = Vec::new();
        self.answers.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the browser has ended");
        let message: Value = serde_json::from_slice(&message).unwrap();
        self.events.extend(message["method"].as_str().map(str::to_owned));
        message
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a width in pixels")]
fn ceiling(width: f64) -> u32 {
    width.ceil() as u32
}
