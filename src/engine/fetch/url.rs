//! Downloads files from web servers. Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, further
//! certificate authorities from `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::path::Path;
use std::time::Duration;

use super::part::PartialFile;
use crate::engine::manifest::Pin;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time without data from the server.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn download(pin: &Pin<'_>, folder: &Path, url: &str) -> Result<(), String> {
    // The engine uses the network nowhere else, so this call has a small async runtime of its own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        crate::tls::use_ring();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(with_causes)?;
        let mut response =
            client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(with_causes)?;
        let mut part = PartialFile::create(pin, folder)?;
        while let Some(bytes) = response.chunk().await.map_err(with_causes)? {
            part.write(&bytes)?;
        }
        part.finish()
    })
}

/// Formats an error with all its causes. The outermost error alone does not tell why a connection failed.
fn with_causes(error: reqwest::Error) -> String {
    // The caller adds the URL to the message.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
