//! No address and no answer of a name server makes the service connect to a private network, and no server can hold it
//! up.

use std::sync::Arc;
use std::time::Duration;

use visage::config::{ByteSize, Settings};
use visage::sources::{AddressError, DownloadError, Downloads};

use super::{Answers, Counter, allow_outside};
use crate::support::smtp::Certificate;
use crate::support::web::WebServer;

/// Ways to write addresses of this machine and of private networks. `PORT` is that of the counter.
const PRIVATE: [&str; 72] = [
    // This machine.
    "https://127.0.0.1:PORT/",
    "https://127.0.0.1.:PORT/",
    "https://127.1:PORT/",
    "https://127.0.1:PORT/",
    "https://2130706433:PORT/",
    "https://0x7f000001:PORT/",
    "https://0X7F.1:PORT/",
    "https://0x7f.0x0.0x0.0x1:PORT/",
    "https://017700000001:PORT/",
    "https://0177.0.0.1:PORT/",
    "https://0177.0000.0000.0001:PORT/",
    "https://127.000.000.001:PORT/",
    "https://127.255.255.254:PORT/",
    "https://0:PORT/",
    "https://0.0.0.0:PORT/",
    "https://0x0:PORT/",
    "https://00.0x0.0.0:PORT/",
    "https://1%327.0.0.1:PORT/",
    "https://%31%32%37.0.0.1:PORT/",
    "https://１２７.０.０.１:PORT/",
    "https://①②⑦.⓪.⓪.①:PORT/",
    "https://127。0。0。1:PORT/",
    "https://127．0．0．1:PORT/",
    "https://127\t.0.0\n.1:PORT/",
    "https:127.0.0.1:PORT/",
    "https:///127.0.0.1:PORT/",
    "https:\\\\127.0.0.1:PORT/",
    "HTTPS://127.0.0.1:PORT/",
    "  https://127.0.0.1:PORT/  ",
    "https://127.0.0.1:PORT\\@example.org/",
    "https://127.0.0.1:PORT#@example.org/",
    "https://127.0.0.1:PORT?@example.org/",
    "https://@127.0.0.1:PORT/",
    "https://localhost:PORT/",
    "https://LOCALHOST:PORT/",
    "https://localhost.:PORT/",
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/",
    "https://loc%61lhost:PORT/",
    "https://video.localhost:PORT/",
    "https://[::1]:PORT/",
    "https://[0:0:0:0:0:0:0:1]:PORT/",
    "https://[0000::0001]:PORT/",
    "https://[::]:PORT/",
    // IPv4 in IPv6: mapped, compatible, translated (NAT64), 6to4, Teredo, ISATAP.
    "https://[::ffff:127.0.0.1]:PORT/",
    "https://[::ffff:7f00:1]:PORT/",
    "https://[::127.0.0.1]:PORT/",
    "https://[64:ff9b::127.0.0.1]:PORT/",
    "https://[64:ff9b:1::127.0.0.1]:PORT/",
    "https://[2002:7f00:1::]:PORT/",
    "https://[2001:0:7f00:1::1]:PORT/",
    "https://[fe80::5efe:7f00:1]:PORT/",
    // Private networks, and services of clouds.
    "https://10.0.0.1:PORT/",
    "https://10.1:PORT/",
    "https://172.16.0.1:PORT/",
    "https://172.31.255.255:PORT/",
    "https://192.168.0.1:PORT/",
    "https://192.168.257:PORT/",
    "https://100.64.0.1:PORT/",
    "https://169.254.169.254:PORT/latest/meta-data/",
    "https://0xa9fea9fe:PORT/",
    "https://[::ffff:169.254.169.254]:PORT/",
    "https://[fd00:ec2::254]:PORT/",
    "https://[fe80::1]:PORT/",
    "https://[fec0::1]:PORT/",
    "https://[fc00::1]:PORT/",
    "https://198.18.0.1:PORT/",
    "https://192.0.0.1:PORT/",
    "https://192.0.2.1:PORT/",
    "https://224.0.0.1:PORT/",
    "https://255.255.255.255:PORT/",
    "https://[ff02::1]:PORT/",
    "https://[2001:db8::1]:PORT/",
];

/// Addresses that are refused for another reason: the scheme, a user, no host.
const OTHER: [&str; 12] = [
    "http://127.0.0.1:PORT/",
    "http://localhost:PORT/",
    "http://example.org:PORT/",
    "https://ann@127.0.0.1:PORT/",
    "https://example.org@127.0.0.1:PORT/",
    "https://example.org:secret@127.0.0.1:PORT/",
    "https://example.org%40127.0.0.1:PORT/",
    "ftp://127.0.0.1:PORT/",
    "gopher://127.0.0.1:PORT/_GET",
    "file://127.0.0.1/etc/passwd",
    "//127.0.0.1:PORT/",
    "https://[::1%25lo]:PORT/",
];

fn downloads(change: impl FnOnce(&mut Settings), names: &Answers) -> Downloads {
    let mut settings = Settings::defaults().unwrap();
    settings.http.idle_timeout_s = 1;
    change(&mut settings);
    Downloads::with_names(&settings, Arc::new(names.clone())).unwrap()
}

/// Fetches a video, and returns its bytes.
async fn fetch(downloads: &Downloads, address: &str) -> Result<Vec<u8>, DownloadError> {
    let fetching = async {
        let mut download = downloads.open(address).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = download.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(Duration::from_secs(60), fetching).await.expect("the download does not end")
}

fn video() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_be_bytes).collect()
}

#[tokio::test]
async fn no_notation_of_a_private_address_is_connected_to() {
    let (counter, names) = (Counter::start().await, Answers::new(&[&["127.0.0.1"]]));
    let downloads = downloads(|_| {}, &names);
    for address in PRIVATE {
        let address = address.replace("PORT", &counter.port.to_string());
        let refused = fetch(&downloads, &address).await.unwrap_err();
        let is_private = matches!(refused, DownloadError::Refused { reason: AddressError::Private, .. });
        assert!(is_private, "{address}: {refused:?}");
    }
    for address in OTHER {
        let address = address.replace("PORT", &counter.port.to_string());
        let refused = fetch(&downloads, &address).await.unwrap_err();
        assert!(matches!(refused, DownloadError::Refused { .. }), "{address}: {refused:?}");
    }
    // Names of others that lead here.
    for name in ["localtest.me", "127.0.0.1.nip.io", "metadata.google.internal", "intranet", "xn--n3h.example"] {
        let address = format!("https://{name}:{}/", counter.port);
        let refused = fetch(&downloads, &address).await.unwrap_err();
        assert_eq!(refused, DownloadError::Refused { host: name.to_owned(), reason: AddressError::Private });
    }
    assert_eq!((counter.count().await, names.lookups()), (0, 5));
}

#[tokio::test]
async fn no_redirect_leads_to_a_private_address() {
    let (counter, server) = (Counter::start().await, WebServer::start(video()).await);
    // Every name leads to the server, except in a redirect.
    let names = Answers::new(&[&["127.0.0.1"]]);
    let downloads = downloads(allow_outside, &names);
    for address in PRIVATE.iter().chain(&OTHER) {
        let target = address.trim().replace("PORT", &counter.port.to_string()).replace(['\t', '\n'], "");
        // A relative address stays on the server, which knows no such path.
        let refused = fetch(&downloads, &server.url(&format!("/redirect?{target}"))).await.unwrap_err();
        let is_refused = match &refused {
            DownloadError::Refused { .. } => true,
            DownloadError::Status { host, status: 404 } => host == "127.0.0.2" && target.starts_with("https:127"),
            _ => false,
        };
        assert!(is_refused, "{target}: {refused:?}");
    }
    assert_eq!(counter.count().await, 0);
    assert_eq!(server.requests("/redirect"), PRIVATE.len() + OTHER.len());
    // The same redirect to an allowed address is followed.
    let moved = fetch(&downloads, &server.url(&format!("/redirect?{}", server.url("/video.mp4")))).await.unwrap();
    assert_eq!(moved, video());
    let moved = fetch(&downloads, &server.url("/redirect?/video.mp4%23part")).await.unwrap_err();
    assert_eq!(moved, DownloadError::Status { host: "127.0.0.2".to_owned(), status: 404 });
}

#[tokio::test]
async fn a_name_that_changes_its_address_gets_no_connection_to_the_private_one() {
    let (counter, server) = (Counter::start().await, WebServer::start(video()).await);
    let (outside, inside): (&[&str], &[&str]) = (&["127.0.0.2"], &["127.0.0.1"]);
    let private = |host: &str| DownloadError::Refused { host: host.to_owned(), reason: AddressError::Private };
    let at = |port: u16, path: &str| format!("http://rebinding.example:{port}{path}");
    // The counter listens at the port of no server, so a connection there would be counted and time out.
    let port = counter.port;

    // 1. The name is asked once, and the connection goes to the checked address, whatever the next answer is.
    let names = Answers::new(&[outside, inside]);
    let fetched = fetch(&downloads(allow_outside, &names), &at(server.port(), "/video.mp4")).await.unwrap();
    assert_eq!((fetched, names.lookups()), (video(), 1));

    // 2. The private address comes with the redirect to the same name, at the port of the counter.
    let names = Answers::new(&[outside, inside]);
    let target = at(server.port(), &format!("/redirect?{}", at(port, "/video.mp4")));
    assert_eq!(fetch(&downloads(allow_outside, &names), &target).await, Err(private("rebinding.example")));
    assert_eq!(names.lookups(), 2);

    // 3. Both come at once, in either order.
    for both in [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]] {
        let names = Answers::new(&[&both]);
        assert_eq!(fetch(&downloads(allow_outside, &names), &at(port, "/")).await, Err(private("rebinding.example")));
    }

    // 4. The private address is hidden in IPv6.
    for hidden in ["::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::1", "::"] {
        let names = Answers::new(&[outside, &[hidden]]);
        let target = at(server.port(), &format!("/redirect?{}", at(port, "/")));
        assert_eq!(fetch(&downloads(allow_outside, &names), &target).await, Err(private("rebinding.example")));
    }

    // 5. Each attempt asks again: one that was refused does not stand for the next, nor the reverse.
    let names = Answers::new(&[inside, outside, inside]);
    let downloads = downloads(allow_outside, &names);
    assert_eq!(fetch(&downloads, &at(port, "/")).await, Err(private("rebinding.example")));
    assert_eq!(fetch(&downloads, &at(server.port(), "/video.mp4")).await, Ok(video()));
    assert_eq!(fetch(&downloads, &at(server.port(), "/video.mp4")).await, Err(private("rebinding.example")));

    assert_eq!(counter.count().await, 0);
}

#[tokio::test]
async fn http_without_tls_leads_only_into_the_listed_networks() {
    let (counter, names) = (Counter::start().await, Answers::new(&[&["1.1.1.1"]]));
    let downloads = downloads(allow_outside, &names);
    let refused = fetch(&downloads, &format!("http://public.example:{}/", counter.port)).await.unwrap_err();
    assert_eq!(refused, DownloadError::Refused { host: "public.example".to_owned(), reason: AddressError::Private });
    let refused = fetch(&downloads, "http://1.1.1.1/").await.unwrap_err();
    assert!(matches!(refused, DownloadError::Refused { reason: AddressError::Plain, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_redirect_may_not_leave_the_listed_hosts() {
    let server = WebServer::start(video()).await;
    let names = Answers::new(&[&["127.0.0.2"]]);
    let downloads = downloads(
        |settings| {
            allow_outside(settings);
            settings.sources.hosts = vec!["*.media.example".to_owned()];
        },
        &names,
    );
    let at = |host: &str, path: &str| format!("http://{host}:{}{path}", server.port());
    let inside = at("a.media.example", &format!("/redirect?{}", at("b.media.example", "/video.mp4")));
    assert_eq!(fetch(&downloads, &inside).await, Ok(video()));
    let outside = at("a.media.example", &format!("/redirect?{}", at("other.example", "/video.mp4")));
    let host = || "other.example".to_owned();
    let refused = DownloadError::Refused { host: host(), reason: AddressError::Host { host: host() } };
    assert_eq!(fetch(&downloads, &outside).await, Err(refused));
    assert_eq!((server.requests("/video.mp4"), names.lookups()), (1, 3));
}

#[tokio::test]
async fn servers_that_lie_stall_or_never_end_are_left_soon() {
    let (server, names) = (WebServer::start(video()).await, Answers::default());
    let downloads = downloads(
        |settings| {
            allow_outside(settings);
            settings.http.max_upload = ByteSize(1_000_000);
            settings.sources.max_fetch_s = 5;
            settings.sources.max_redirects = 3;
        },
        &names,
    );
    let host = || "127.0.0.2".to_owned();
    for path in ["/video.mp4", "/chunked.mp4"] {
        assert_eq!(fetch(&downloads, &server.url(path)).await, Ok(video()), "{path}");
    }
    let cut = fetch(&downloads, &server.url("/long.mp4")).await.unwrap();
    assert_eq!(cut, video()[..video().len() / 2], "what follows the announced length is not part of the answer");
    for path in ["/short.mp4", "/stalled.mp4", "/silent.mp4", "/garbage", "/headers"] {
        let error = fetch(&downloads, &server.url(path)).await.unwrap_err();
        assert!(matches!(error, DownloadError::Unreachable { .. }), "{path}: {error:?}");
        assert!(!error.to_string().contains(path), "{error}");
    }
    for (path, expected) in [
        ("/endless.mp4", DownloadError::TooLarge { limit: 1_000_000 }),
        ("/huge.mp4", DownloadError::TooLarge { limit: 1_000_000 }),
        ("/slow.mp4", DownloadError::TooSlow { host: host(), limit_s: 5 }),
        ("/missing.mp4", DownloadError::Status { host: host(), status: 404 }),
        ("/partial.mp4", DownloadError::Status { host: host(), status: 206 }),
        ("/loop", DownloadError::TooManyRedirects { host: host(), limit: 3 }),
    ] {
        assert_eq!(fetch(&downloads, &server.url(path)).await, Err(expected), "{path}");
    }
    assert_eq!(server.requests("/loop"), 4);
    // Nobody listens at this port.
    let free = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap().port();
    let error = fetch(&downloads, &format!("http://127.0.0.2:{free}/secret?secret")).await.unwrap_err();
    assert!(matches!(error, DownloadError::Unreachable { .. }), "{error:?}");
    assert!(!error.to_string().contains("secret"), "{error}");
    let error = fetch(&downloads, "http://no-such-name.example/secret").await.unwrap_err();
    assert!(matches!(error, DownloadError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn the_certificate_of_the_server_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(folder.path());
    let server = WebServer::with_tls(video(), Some(&certificate)).await;
    let names = Answers::new(&[&["127.0.0.2"]]);
    let with_authority = |authority: &str| {
        let change = |settings: &mut Settings| {
            allow_outside(settings);
            settings.sources.private_networks.push("127.0.0.3".to_owned());
            authority.clone_into(&mut settings.sources.ca_file);
        };
        downloads(change, &names)
    };
    let trusting = with_authority(&certificate.certificate);
    let at = |host: &str| format!("https://{host}:{}/video.mp4", server.port());
    assert_eq!(fetch(&trusting, &at("localhost")).await, Ok(video()));
    for (downloads, host) in [(&with_authority(""), "localhost"), (&trusting, "other.example")] {
        let error = fetch(downloads, &at(host)).await.unwrap_err();
        let DownloadError::Unreachable { cause, .. } = &error else { panic!("{host}: {error:?}") };
        assert!(cause.contains("certificate"), "{cause}");
    }
    assert_eq!(server.requests("/video.mp4"), 1);

    let mut settings = Settings::defaults().unwrap();
    settings.sources.ca_file = "/nowhere/ca.pem".to_owned();
    let error = Downloads::new(&settings).err().unwrap().to_string();
    assert!(error.contains("sources.ca_file") && error.contains("/nowhere/ca.pem"), "{error}");
}
