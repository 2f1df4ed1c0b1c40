//! Videos that clients give by address instead of as a file: `https://...` and `s3://BUCKET/KEY`. Checks addresses, and
//! fetches from those of the web.
//!
//! The addresses come from untrusted clients, so a fetch must not reach a private network ([`crate::public_network`]).
//! Each address is checked when the request arrives, and again when it is fetched. A name is resolved once for a
//! connection: all its IP addresses are checked, and the connection uses exactly these. Redirects are followed here, not
//! by the HTTP client, and each of them is checked in the same way.
//!
//! Addresses may contain secrets, such as a signature in the query. Errors, logs and results have the host only.
//!
//! This module knows no jobs, no storage and no videos: the API decides what to accept, and the worker where to store.

mod address;
mod download;
mod names;

pub use address::{AddressError, AddressRules, MAX_ADDRESS, ObjectAddress, VideoAddress};
pub use download::{Download, DownloadError, Downloads, SetupError};
pub use names::Names;
