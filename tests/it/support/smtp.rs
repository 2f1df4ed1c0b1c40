//! An SMTP server in this process that keeps what it takes, and that can be told to refuse or to hang up.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use mailin_embedded::{Action, Handler, Response, Server, SslConfig, response};

/// A mail that the server has said yes to.
#[derive(Debug, Clone)]
pub struct Received {
    /// With its angle brackets, as in the header.
    pub message_id: String,
    pub to: Vec<String>,
    pub raw: Vec<u8>,
}

/// What the server does with the next mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    Accept,
    /// Greets with this and hangs up.
    RefuseSession(u16),
    /// Answers EHLO with 502; HELO is taken.
    KnowsNoEhlo,
    /// Answers RCPT with this.
    RefuseRecipient(u16, String),
    /// Takes the mail's bytes, then answers with this.
    RefuseMail(u16, String),
    /// Hangs up instead of answering DATA.
    HangUpBeforeData,
    /// Keeps the mail and hangs up instead of saying so: what a client must not take for a refusal.
    HangUpAfterData,
    /// Takes the mail's bytes and says nothing any more.
    FallSilent,
}

struct Shared {
    mood: Mutex<Mood>,
    messages: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    /// The next answer of the server is not to reach the client.
    hang_up: AtomicBool,
    silent: AtomicBool,
}

/// The server; it runs until the process ends. Cheap to clone.
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
            mood: Mutex::new(Mood::Accept),
            messages: Mutex::default(),
            connections: AtomicUsize::new(0),
            hang_up: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        });
        // The library neither counts connections nor hangs up: a door in front of it does both.
        let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let inner_port = inner.local_addr().unwrap().port();
        let mut server = Server::new(Keeper { shared: shared.clone(), to: Vec::new(), data: Vec::new() });
        let tls = certificate.map_or(SslConfig::None, |files| SslConfig::SelfSigned {
            cert_path: files.certificate.clone(),
            key_path: files.key.clone(),
        });
        server.with_name("localhost").with_num_threads(64).with_tcp_listener(inner).with_ssl(tls).unwrap();
        thread::spawn(move || server.serve().unwrap());

        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = door.local_addr().unwrap().port();
        let at_door = shared.clone();
        thread::spawn(move || {
            for client in door.incoming().flatten() {
                at_door.connections.fetch_add(1, Ordering::SeqCst);
                let mood = at_door.mood.lock().unwrap().clone();
                if let Mood::RefuseSession(code) = mood {
                    let mut client = client;
                    let _ = client.write_all(format!("{code} not today\r\n").as_bytes());
                    continue;
                }
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, inner_port)).unwrap();
                let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let without_ehlo = (mood == Mood::KnowsNoEhlo).then(|| client.try_clone().unwrap());
                thread::spawn(move || pass_commands(from_client, to_server, without_ehlo));
                let shared = at_door.clone();
                thread::spawn(move || pass(server, client, Some(&shared)));
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every mail taken so far, in order.
    pub fn messages(&self) -> Vec<Received> {
        self.shared.messages.lock().unwrap().clone()
    }

    /// Connections opened so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// What happens to mails from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.shared.silent.store(false, Ordering::SeqCst);
        *self.shared.mood.lock().unwrap() = mood;
    }
}

/// Passes commands on; EHLO is refused to a client that is given here.
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

/// Passes bytes on until one side closes; with `shared`, unless the server is to hang up or be silent.
fn pass(mut from: TcpStream, mut to: TcpStream, shared: Option<&Shared>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if let Some(shared) = shared {
            if shared.hang_up.swap(false, Ordering::SeqCst) {
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

/// One connection's side of the server.
#[derive(Clone)]
struct Keeper {
    shared: Arc<Shared>,
    to: Vec<String>,
    data: Vec<u8>,
}

impl Keeper {
    fn mood(&self) -> Mood {
        self.shared.mood.lock().unwrap().clone()
    }
}

impl Handler for Keeper {
    fn mail(&mut self, _ip: IpAddr, _domain: &str, _from: &str) -> Response {
        self.to.clear();
        self.data.clear();
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if let Mood::RefuseRecipient(code, text) = self.mood() {
            return Response::custom(code, text);
        }
        self.to.push(to.to_owned());
        response::OK
    }

    fn data_start(&mut self, _domain: &str, _from: &str, _is8bit: bool, _to: &[String]) -> Response {
        if self.mood() == Mood::HangUpBeforeData {
            self.shared.hang_up.store(true, Ordering::SeqCst);
        }
        response::START_DATA
    }

    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let mood = self.mood();
        if let Mood::RefuseMail(code, text) = mood {
            let mut refusal = Response::custom(code, text);
            // The library would go on taking commands for lines of the mail after a refusal.
            refusal.action = Action::Close;
            return refusal;
        }
        let parsed = mail_parser::MessageParser::default().parse(&self.data).expect("a mail");
        let message_id = format!("<{}>", parsed.message_id().unwrap_or_default());
        let (to, raw) = (self.to.clone(), self.data.clone());
        self.shared.messages.lock().unwrap().push(Received { message_id, to, raw });
        match mood {
            Mood::HangUpAfterData => self.shared.hang_up.store(true, Ordering::SeqCst),
            Mood::FallSilent => self.shared.silent.store(true, Ordering::SeqCst),
            _ => {}
        }
        response::OK
    }
}
