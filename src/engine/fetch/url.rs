//! Files from a web server. `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name proxies, `SSL_CERT_FILE` and `SSL_CERT_DIR` other
//! certificate authorities.

use std::path::Path;
use std::time::Duration;

use super::part::Part;
use crate::engine::manifest::Pin;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a server.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn download(pin: &Pin<'_>, folder: &Path, url: &str) -> Result<(), String> {
    // The one call of the engine that waits for a network: it gets a small runtime of its own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        crate::tls::use_ring();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(whole)?;
        let mut response = client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(whole)?;
        let mut part = Part::create(pin, folder)?;
        while let Some(bytes) = response.chunk().await.map_err(whole)? {
            part.write(&bytes)?;
        }
        part.finish()
    })
}

/// An error with its causes: the outermost alone says little about what failed on the way to a server.
fn whole(error: reqwest::Error) -> String {
    // The caller names the address already.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
