//! An SMTP server in this process. It records accepted mails, and can be set to refuse or to disconnect.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use mailin_embedded::{Action, Handler, Response, Server, SslConfig, response};

/// A mail that the server has accepted.
#[derive(Debug, Clone)]
pub struct Received {
    /// With its angle brackets, as in the header.
    pub message_id: String,
    pub to: Vec<String>,
    pub raw: Vec<u8>,
}

/// The behaviour of the server for the next mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmtpBehaviour {
    Accept,
    /// Greets with this code and disconnects.
    RefuseSession(u16),
    /// Answers EHLO with 502 and accepts HELO.
    WithoutEhlo,
    /// Answers RCPT with this code and text.
    RefuseRecipient(u16, String),
    /// Reads the mail, then answers with this code and text.
    RefuseMail(u16, String),
    /// Disconnects instead of answering DATA.
    DisconnectBeforeData,
    /// Records the mail and disconnects without an answer. A client must not treat this as a refusal.
    DisconnectAfterData,
    /// Records the mail and never answers again.
    StopAnswering,
}

struct Shared {
    behaviour: Mutex<SmtpBehaviour>,
    messages: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    /// Disconnect instead of passing on the next answer.
    disconnect: AtomicBool,
    silent: AtomicBool,
}

/// The server. It runs until the process ends. Cheap to clone.
#[derive(Clone)]
pub struct SmtpServer {
    port: u16,
    shared: Arc<Shared>,
}

/// Files with a certificate for `localhost` and its key, in PEM.
pub struct Certificate {
    pub certificate: String,
    pub key: String,
}

impl Certificate {
    /// Makes a certificate for `localhost`.
    pub fn make(folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { certificate: path("cert.pem"), key: path("key.pem") }
    }
}

impl SmtpServer {
    /// Starts a server without TLS on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::with_tls(None)
    }

    /// Starts a server that offers STARTTLS.
    pub fn start_with_starttls(certificate: &Certificate) -> Self {
        Self::with_tls(Some(certificate))
    }

    fn with_tls(certificate: Option<&Certificate>) -> Self {
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(SmtpBehaviour::Accept),
            messages: Mutex::default(),
            connections: AtomicUsize::new(0),
            disconnect: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        });
        // The library can neither count connections nor disconnect, so a proxy in front of it does both.
        let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let inner_port = inner.local_addr().unwrap().port();
        let mut server = Server::new(SmtpHandler { shared: shared.clone(), to: Vec::new(), data: Vec::new() });
        let tls = certificate.map_or(SslConfig::None, |files| SslConfig::SelfSigned {
            cert_path: files.certificate.clone(),
            key_path: files.key.clone(),
        });
        server.with_name("localhost").with_num_threads(64).with_tcp_listener(inner).with_ssl(tls).unwrap();
        thread::spawn(move || server.serve().unwrap());

        let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = proxy.local_addr().unwrap().port();
        let proxy_state = shared.clone();
        thread::spawn(move || {
            for client in proxy.incoming().flatten() {
                proxy_state.connections.fetch_add(1, Ordering::SeqCst);
                let behaviour = proxy_state.behaviour.lock().unwrap().clone();
                if let SmtpBehaviour::RefuseSession(code) = behaviour {
                    let mut client = client;
                    let _ = client.write_all(format!("{code} service not available\r\n").as_bytes());
                    continue;
                }
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, inner_port)).unwrap();
                let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let without_ehlo = (behaviour == SmtpBehaviour::WithoutEhlo).then(|| client.try_clone().unwrap());
                thread::spawn(move || pass_commands(from_client, to_server, without_ehlo));
                let shared = proxy_state.clone();
                thread::spawn(move || pass(server, client, Some(&shared)));
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns every mail accepted so far, in order.
    pub fn messages(&self) -> Vec<Received> {
        self.shared.messages.lock().unwrap().clone()
    }

    /// Returns the number of connections opened so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Sets the behaviour from now on.
    pub fn set_behaviour(&self, behaviour: SmtpBehaviour) {
        self.shared.silent.store(false, Ordering::SeqCst);
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }
}

/// Passes commands on. If `without_ehlo` has the client, answers its EHLO with an error.
fn pass_commands(mut from: TcpStream, mut to: TcpStream, without_ehlo: Option<TcpStream>) {
    let Some(mut client) = without_ehlo else { return pass(from, to, None) };
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let is_ehlo = buffer.get(..4).is_some_and(|command| command.eq_ignore_ascii_case(b"EHLO"));
        let sent =
            if is_ehlo { client.write_all(b"502 5.5.1 unknown command\r\n") } else { to.write_all(&buffer[..n]) };
        if sent.is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes bytes on until one side closes. With `shared`, it also disconnects or drops answers as set there.
fn pass(mut from: TcpStream, mut to: TcpStream, shared: Option<&Shared>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if let Some(shared) = shared {
            if shared.disconnect.swap(false, Ordering::SeqCst) {
                break;
            }
            if shared.silent.load(Ordering::SeqCst) {
                continue;
            }
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Handles the commands of one connection.
#[derive(Clone)]
struct SmtpHandler {
    shared: Arc<Shared>,
    to: Vec<String>,
    data: Vec<u8>,
}

impl SmtpHandler {
    fn behaviour(&self) -> SmtpBehaviour {
        self.shared.behaviour.lock().unwrap().clone()
    }
}

impl Handler for SmtpHandler {
    fn mail(&mut self, _ip: IpAddr, _domain: &str, _from: &str) -> Response {
        self.to.clear();
        self.data.clear();
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if let SmtpBehaviour::RefuseRecipient(code, text) = self.behaviour() {
            return Response::custom(code, text);
        }
        self.to.push(to.to_owned());
        response::OK
    }

    fn data_start(&mut self, _domain: &str, _from: &str, _is8bit: bool, _to: &[String]) -> Response {
        if self.behaviour() == SmtpBehaviour::DisconnectBeforeData {
            self.shared.disconnect.store(true, Ordering::SeqCst);
        }
        response::START_DATA
    }

    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let behaviour = self.behaviour();
        if let SmtpBehaviour::RefuseMail(code, text) = behaviour {
            let mut refusal = Response::custom(code, text);
            // Close the connection, because the library would read commands as lines of the mail after a refusal.
            refusal.action = Action::Close;
            return refusal;
        }
        let parsed = mail_parser::MessageParser::default().parse(&self.data).expect("a mail");
        let message_id = format!("<{}>", parsed.message_id().unwrap_or_default());
        let (to, raw) = (self.to.clone(), self.data.clone());
        self.shared.messages.lock().unwrap().push(Received { message_id, to, raw });
        match behaviour {
            SmtpBehaviour::DisconnectAfterData => self.shared.disconnect.store(true, Ordering::SeqCst),
            SmtpBehaviour::StopAnswering => self.shared.silent.store(true, Ordering::SeqCst),
            _ => {}
        }
        response::OK
    }
}
