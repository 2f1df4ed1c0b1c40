//! External S3 servers, run as processes. `scripts/install-s3-servers.sh` installs them; a test fails without them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use visage::config;

const BUCKET: &str = "videos";

/// A running server with one empty bucket. It ends on drop.
pub struct ExternalS3Server {
    endpoint: String,
    process: Child,
    /// The folder of its objects, deleted on drop.
    _folder: TempDir,
}

impl ExternalS3Server {
    /// Starts localbucket, a server in Python that stores objects in a folder and lists neither parts nor unfinished
    /// uploads.
    pub async fn localbucket() -> Self {
        let arguments = |folder: &Path, port| vec!["--port".to_owned(), port, folder.to_str().unwrap().to_owned()];
        Self::start("localbucket", arguments).await
    }

    /// A server in Python that keeps everything in memory, and names the roots of some answers in its own way.
    pub async fn moto() -> Self {
        Self::start("moto_server", |_, port| vec!["--port".to_owned(), port]).await
    }

    async fn start(program: &str, arguments: impl FnOnce(&Path, String) -> Vec<String>) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/s3-servers/bin").join(program);
        assert!(path.is_file(), "{} is missing: scripts/install-s3-servers.sh installs it", path.display());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = TempDir::new().unwrap();
        let process = Command::new(path)
            .args(arguments(folder.path(), port.to_string()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { endpoint: format!("http://127.0.0.1:{port}"), process, _folder: folder };
        let made = async {
            loop {
                let put = super::http().put(format!("{}/{BUCKET}", server.endpoint)).send().await;
                if put.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), made).await.expect("the server does not create a bucket");
        server
    }

    /// Returns the settings of a store on this server.
    pub fn settings(&self) -> config::S3 {
        config::S3 {
            bucket: BUCKET.to_owned(),
            prefix: "visage".to_owned(),
            endpoint: self.endpoint.clone(),
            path_style: true,
            access_key: "AKIAVISAGETEST".to_owned(),
            secret_key: config::Secret::new("test-secret"),
            direct_uploads: true,
            ..config::Settings::defaults().unwrap().storage.s3
        }
    }

    /// Returns the number of objects in the bucket, without the identity of the storage. Blocks until the server
    /// answers.
    pub fn objects(&self) -> usize {
        let url = format!("{}/{BUCKET}?list-type=2", self.endpoint);
        let listing = async { super::http().get(url).send().await.unwrap().text().await.unwrap() };
        let listing = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(listing));
        assert!(listing.contains("ListBucketResult"), "{listing}");
        listing.matches("<Key>visage/").count() - listing.matches("<Key>visage/.visage-storage<").count()
    }
}

impl Drop for ExternalS3Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
