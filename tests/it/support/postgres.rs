//! The Postgres server of the tests. Each test has a new database on it. `VISAGE_TEST_POSTGRES` is the address of the
//! server. With `VISAGE_TEST_POSTGRES=own`, this process starts a server, which ends with it. Without the variable, the
//! tests use the server on 127.0.0.1:5432, or start one if none answers there.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;
use visage::clock::{RandomTokens, Tokens};

/// A database for one test. It is dropped with this value.
pub struct TestDatabase {
    name: String,
    server: String,
}

impl TestDatabase {
    /// Creates an empty database.
    pub async fn create() -> Self {
        let server = server().await.to_owned();
        let name = format!("visage_test_{}", RandomTokens.next().simple());
        let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
        Self { name, server }
    }

    /// Returns the address of the database.
    pub fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (admin, name) = (format!("{}/postgres", self.server), self.name.clone());
        // Use a new runtime, because that of the test may be shutting down.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&admin).await?;
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await?;
                admin.close().await
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("the test database {} was not dropped: {error}", self.name);
        }
    }
}

/// Returns the address of the server, `postgres://...` without a database.
async fn server() -> &'static str {
    static SERVER: OnceCell<String> = OnceCell::const_new();
    SERVER
        .get_or_init(async || match std::env::var("VISAGE_TEST_POSTGRES").as_deref() {
            Ok("own") => own().await,
            Ok(given) => given.trim_end_matches('/').trim_end_matches("/postgres").to_owned(),
            Err(_) => {
                let usual = "postgres://postgres@127.0.0.1:5432";
                if answers(usual).await { usual.to_owned() } else { own().await }
            }
        })
        .await
}

async fn answers(server: &str) -> bool {
    let address = format!("{server}/postgres");
    let connected = tokio::time::timeout(Duration::from_secs(3), PgConnection::connect(&address)).await;
    matches!(connected, Ok(Ok(_)))
}

/// A server for one test, which can freeze or stop it. It ends with this process.
pub struct PrivateServer {
    url: String,
    folder: PathBuf,
}

impl PrivateServer {
    pub async fn start() -> Self {
        let (url, folder) = start().await;
        Self { url, folder }
    }

    /// Returns the address of an empty database.
    pub fn url(&self) -> String {
        format!("{}/postgres", self.url)
    }

    /// Suspends all processes of the server: connections stay open without an answer.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Resumes all processes.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Stops the server. Afterwards its port refuses connections.
    pub fn end(&self) {
        kill(self.main(), Signal::SIGINT).unwrap();
    }

    /// Waits until the server has stopped.
    pub async fn ended(&self) {
        let stopped = async {
            while self.folder.join("postmaster.pid").exists() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), stopped).await.expect("Postgres does not stop");
    }

    fn main(&self) -> Pid {
        let file = std::fs::read_to_string(self.folder.join("postmaster.pid")).unwrap();
        Pid::from_raw(file.lines().next().unwrap().parse().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let main = self.main();
        kill(main, signal).unwrap();
        let parent = format!("PPid:\t{main}");
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.filter(|_| status.lines().any(|line| line == parent)) {
                // Ignore processes that have ended in the meantime.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if self.folder.join("postmaster.pid").exists() {
            self.thaw();
            self.end();
        }
    }
}

async fn own() -> String {
    start().await.0
}

/// Starts a server in a new folder. Returns its address without a database, and the folder.
async fn start() -> (String, PathBuf) {
    let programs = programs();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = std::env::temp_dir().join(format!("visage-test-postgres-{}", RandomTokens.next().simple()));
    let made = as_postgres(&programs.join("initdb"))
        .args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
        .arg(&folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    // The shell stops the server when its standard input ends. That happens when this process ends for any reason.
    let script = r#"folder=$1; shift; "$@" >/dev/null 2>&1 </dev/null & server=$!
                    cat >/dev/null; kill -INT $server; wait $server; rm -rf "$folder""#;
    let command = as_postgres(&programs.join("postgres"));
    let child: Child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&folder)
        .arg(command.get_program())
        .args(command.get_args())
        .arg("-D")
        .arg(&folder)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "fsync=off", "-c", "max_connections=200"])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Keep the input of the shell open until this process ends.
    std::mem::forget(child);
    let server = format!("postgres://postgres@127.0.0.1:{port}");
    for _ in 0..300 {
        if answers(&server).await {
            return (server, folder);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("Postgres on port {port} does not answer");
}

/// Returns the folder of the server's programs: that of Debian's newest version, otherwise that of `pg_config`,
/// otherwise the first one in PATH.
fn programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    versions.sort();
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = versions.into_iter().rev().map(|(_, folder)| folder);
    folders
        .chain(configured)
        .chain(std::env::split_paths(&path))
        .find(|folder| ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file()))
        .expect("scripts/install-test-deps.sh installs Postgres")
}

/// Returns a command for a program of the server. Root runs it as the user postgres, because Postgres refuses to run
/// as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = if nix::unistd::Uid::effective().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}
