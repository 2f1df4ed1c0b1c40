//! The checks of `visage doctor`, one function each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Finding, models};
use crate::cli::{Failure, PROGRAM};
use crate::clock::SystemClock;
use crate::config::{Device, Hwaccel, MailTransport, Precision, Settings, StorageKind};
use crate::engine::{ActiveDevice, Engine, library};
use crate::isolation::{self, DecoderMode, Decoders};
use crate::media;
use crate::report::webhook::Webhooks;
use crate::report::{Mailer, Reporter};
use crate::store::{Store, StoreError};

/// Maximum time for a server to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Warn below this much free space: it holds two uploads of the default maximum size.
const MIN_FREE_SPACE: u64 = 5 << 30;

/// Runs all checks, in the order in which a new user needs the parts.
pub fn all(settings: &Settings, config: Option<&Path>) -> Result<Vec<Finding>, Failure> {
    let mut findings = vec![settings_files(config)?, onnx_runtime(settings)];
    findings.extend(models::all(settings));
    // Start FFmpeg's CUDA before the models, as everywhere: FFmpeg cannot use CUDA if another library has initialized
    // it.
    let hwaccel = hwaccel(settings);
    findings.extend(device(settings));
    findings.push(video_libraries());
    findings.extend(hwaccel);
    findings.push(isolation(settings));
    findings.push(encoders(&media::missing_encoders()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Run(format!("cannot start the async runtime: {error}")))?;
    runtime.block_on(async {
        findings.push(database(settings, TIMEOUT).await);
        findings.push(storage(settings, TIMEOUT).await);
        findings.push(mail(settings, TIMEOUT).await);
    });
    findings.push(webhooks(settings));
    findings.extend(disk(settings));
    findings.push(cores(settings));
    Ok(findings)
}

/// Reports the sources of the settings. Invalid settings have stopped the program earlier.
fn settings_files(config: Option<&Path>) -> Result<Finding, Failure> {
    let files = Settings::files(config)?;
    let mut from: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if from.is_empty() {
        from.push("the built-in defaults".to_owned());
    }
    let variables = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VISAGE_")).count();
    if variables > 0 {
        from.push(format!("{variables} VISAGE_ variable{} of the environment", if variables == 1 { "" } else { "s" }));
    }
    Ok(Finding::ok("settings", from.join(", ")))
}

fn onnx_runtime(settings: &Settings) -> Finding {
    match library::find(&settings.engine.library) {
        Ok(found) => Finding::ok("onnxruntime", format!("{} at {}", found.version, found.path.display())),
        Err(error) => Finding::missing(
            "onnxruntime",
            error.to_string(),
            "run scripts/fetch-onnxruntime.sh, which puts it into .runtime/, or set engine.library to the file",
        ),
    }
}

/// Reports the device that models run on. Returns `None` if that is unknown because the library or the model is
/// missing.
fn device(settings: &Settings) -> Option<Finding> {
    library::find(&settings.engine.library).ok()?;
    let cure = "to use CUDA, run scripts/fetch-onnxruntime.sh .runtime cuda and install NVIDIA's CUDA 13 and cuDNN 9; \
                otherwise set engine.device = \"cpu\"";
    let engine = match Engine::start(&settings.engine) {
        Ok(engine) => engine,
        Err(error) => return Some(Finding::missing("device", error.to_string(), cure)),
    };
    let emotion = &settings.vision.emotion;
    let path = settings.models.folder.join(&emotion.file);
    if !path.is_file() {
        return None;
    }
    // With `auto`, loading the first model chooses the device.
    if let Err(error) = engine.load(&emotion.name, &path) {
        return Some(Finding::missing("device", error.to_string(), cure));
    }
    let active = engine.device()?;
    if active == ActiveDevice::Cpu && settings.engine.precision == Precision::Fp16 {
        let cure = "set engine.precision = \"fp32\"";
        return Some(Finding::warn("device", "CPU, which is slower in half precision", cure));
    }
    Some(match active {
        ActiveDevice::Cuda => Finding::ok("device", "CUDA"),
        ActiveDevice::Cpu if settings.engine.device == Device::Auto && Path::new("/dev/nvidiactl").exists() => {
            Finding::warn("device", "CPU, although this machine has an NVIDIA GPU", cure)
        }
        ActiveDevice::Cpu => Finding::ok("device", "CPU"),
    })
}

/// Reports the video libraries. They are linked, so they are present. Their versions and folders help with bug reports
/// and on machines with several copies of them.
fn video_libraries() -> Finding {
    /// Tested major versions of libavcodec, from FFmpeg 5.1 to FFmpeg 8.
    const TESTED: std::ops::RangeInclusive<u32> = 59..=62;

    let opencv = opencv::core::get_version_string().unwrap_or_else(|_| "of unknown version".to_owned());
    let dotted = |version: u32| format!("{}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff);
    let (format, codec) = (ffmpeg_next::format::version(), ffmpeg_next::codec::version());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let folder =
        |library: &str| loaded_from(&maps, library).map_or(String::new(), |path| format!(" in {}", path.display()));
    let found = format!(
        "OpenCV {opencv}{}, FFmpeg's libavformat {} and libavcodec {}{}",
        folder("libopencv_core.so"),
        dotted(format),
        dotted(codec),
        folder("libavcodec.so")
    );
    if TESTED.contains(&(codec >> 16)) {
        return Finding::ok("video", found);
    }
    Finding::warn(
        "video",
        found,
        "visage is tested with FFmpeg 5.1 to 8 (libavcodec 59 to 62): build it with one of these",
    )
}

/// Finds the folder of a shared library of this process in the list of its memory maps.
fn loaded_from<'a>(maps: &'a str, library: &str) -> Option<&'a Path> {
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    let path = paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(library)))?;
    path.parent()
}

/// Reports the GPU decoder. Returns `None` if the settings use none.
fn hwaccel(settings: &Settings) -> Option<Finding> {
    let requested = settings.video.hwaccel;
    if requested == Hwaccel::None {
        return None;
    }
    Some(match media::hwaccel(requested) {
        Ok(Some(name)) => {
            Finding::ok("hwaccel", format!("{name} decodes the formats that it supports, the CPU all others"))
        }
        Ok(None) => Finding::ok("hwaccel", "no GPU decoder found; the CPU decodes"),
        Err(error) => Finding::missing(
            "hwaccel",
            error.to_string(),
            "check that the GPU's driver is installed and that this user may use it",
        ),
    })
}

/// Reports whether decoding is isolated, and tests whether the barriers hold.
fn isolation(settings: &Settings) -> Finding {
    const CURE: &str = "use a kernel with seccomp and landlock (Linux 5.13), and a container that does not forbid them";
    let decoders = match Decoders::new(&settings.video, PROGRAM.into(), false) {
        Ok(decoders) => decoders,
        Err(error) => return Finding::missing("isolation", error.to_string(), CURE),
    };
    let mode = match decoders.check() {
        Ok(mode) => mode,
        Err(error) => return Finding::missing("isolation", error.to_string(), CURE),
    };
    let DecoderMode::Children(barriers) = mode else {
        return Finding::warn("isolation", format!("videos are decoded without isolation: {mode}"), CURE);
    };
    let attempts = match isolation::try_attempts(Path::new(PROGRAM), barriers) {
        Ok(attempts) => attempts,
        Err(error) => return Finding::warn("isolation", format!("{mode}, but they cannot be tried: {error}"), CURE),
    };
    let succeeded: Vec<&str> =
        attempts.iter().filter(|(_, outcome)| *outcome == Some(true)).map(|(attempt, _)| attempt.name()).collect();
    match succeeded.as_slice() {
        [] if barriers.is_complete() => Finding::ok(
            "isolation",
            format!("{mode}; reading files, connecting, executing and sending signals were tried and failed"),
        ),
        [] => Finding::warn("isolation", mode.to_string(), CURE),
        _ => Finding::warn("isolation", format!("{mode}, but these attempts succeed: {}", succeeded.join(", ")), CURE),
    }
}

/// Reports the encoders for thumbnails and overlays. Debian's FFmpeg has all of them.
fn encoders(missing: &[&str]) -> Finding {
    if missing.is_empty() {
        return Finding::ok("encoders", "H.264, GIF and WebP for POST /thumbnail, H.264 and AAC for overlays");
    }
    let found = format!(
        "FFmpeg lacks {}; POST /thumbnail answers 503 for formats that need it, and overlays need libx264 and aac",
        missing.join(", ")
    );
    Finding::warn("encoders", found, "link an FFmpeg with libx264, libwebp and aac, as Debian packages it")
}

/// Checks whether webhooks can be sent.
fn webhooks(settings: &Settings) -> Finding {
    match Webhooks::new(&settings.webhooks) {
        Ok(None) => Finding::ok("webhooks", "switched off; webhooks.secret switches them on"),
        Ok(Some(_)) if settings.webhooks.allow_private => Finding::warn(
            "webhooks",
            "also sent to private networks: every caller can make this machine send requests to machines there",
            "set webhooks.allow_private = false, unless you trust every caller",
        ),
        Ok(Some(_)) => match settings.webhooks.secrets().len() {
            1 => Finding::ok("webhooks", "signed with one secret"),
            several => Finding::ok("webhooks", format!("signed with each of {several} secrets")),
        },
        Err(error) => Finding::missing("webhooks", error.reason, "use whsec_ and 24 to 64 random bytes in base64"),
    }
}

/// Checks whether the database answers and its tables match this version. Does not create or change tables.
async fn database(settings: &Settings, timeout: Duration) -> Finding {
    let url = settings.database.url.expose();
    let (kind, cure) = if url.starts_with("sqlite:") {
        let file = url.trim_start_matches("sqlite:").trim_start_matches("//").split('?').next().unwrap_or_default();
        if !file.contains(":memory:") && !Path::new(file).exists() {
            return match writable_parent(Path::new(file)) {
                Ok(_) => Finding::ok("database", format!("SQLite; {file} is created at the first start")),
                Err(reason) => Finding::missing("database", reason, "set database.url to a file in a writable folder"),
            };
        }
        ("SQLite", "check that the file of database.url is a database and that you may write to it")
    } else {
        (
            "Postgres",
            "check that Postgres is running and that user, password, host and name in database.url are correct",
        )
    };
    let read_only = crate::config::Database { migrate: false, max_connections: 1, ..settings.database.clone() };
    let answer = async {
        let store = Store::open(&read_only).await?;
        store.ping().await
    };
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(())) => Finding::ok("database", format!("{kind}, tables up to date")),
        Ok(Err(StoreError::OldTables)) if settings.database.migrate => {
            Finding::ok("database", format!("{kind}; its tables will be updated at the next start"))
        }
        Ok(Err(error @ StoreError::OldTables)) => {
            Finding::missing("database", error.to_string(), "start `visage serve` once with database.migrate = true")
        }
        Ok(Err(error @ StoreError::NewerTables(_))) => {
            Finding::missing("database", error.to_string(), "install the newer version, or restore the backup")
        }
        Ok(Err(error)) => Finding::missing("database", error.to_string(), cure),
        Err(_) => Finding::missing("database", format!("{kind} does not answer within {timeout:?}"), cure),
    }
}

/// Checks whether videos can be written and read.
async fn storage(settings: &Settings, timeout: Duration) -> Finding {
    let storage = &settings.storage;
    let (found, cure) = match storage.kind {
        StorageKind::Folder => {
            if let Err(reason) = writable_parent(&storage.folder) {
                return Finding::missing("storage", reason, "set storage.folder to a writable folder");
            }
            (format!("the folder {}", storage.folder.display()), "set storage.folder to a writable folder")
        }
        StorageKind::S3 => (
            format!("the bucket {}", storage.s3.bucket),
            "check that the bucket exists and that endpoint, region, keys and path_style in [storage.s3] are correct",
        ),
    };
    let answer = async {
        let blobs = crate::blob::open(storage, Arc::new(SystemClock)).await?;
        blobs.check().await
    };
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(())) => Finding::ok("storage", format!("{found} can be written and read")),
        Ok(Err(error)) => Finding::missing("storage", format!("{found}: {error}"), cure),
        Err(_) => Finding::missing("storage", format!("{found} does not answer within {timeout:?}"), cure),
    }
}

/// Checks whether mails can be sent.
async fn mail(settings: &Settings, timeout: Duration) -> Finding {
    let mail = &settings.mail;
    let (found, cure) = match mail.transport {
        MailTransport::None => return Finding::ok("mail", "switched off"),
        MailTransport::Outbox => {
            (format!("as files in {}", mail.outbox.display()), "set mail.outbox to a writable folder")
        }
        MailTransport::Smtp => (
            format!("through {}:{}", mail.smtp.host, mail.smtp.port),
            "check that the server is reachable and that host, port, security and login in [mail.smtp] are correct",
        ),
    };
    let mailer = match Reporter::new(settings).and_then(|reporter| Mailer::new(settings, reporter)) {
        Ok(Some(mailer)) => mailer,
        Ok(None) => return Finding::ok("mail", "switched off"),
        Err(error) => {
            return Finding::missing("mail", error.to_string(), "correct the settings in [report] and [mail]");
        }
    };
    match tokio::time::timeout(timeout, mailer.check()).await {
        Ok(Ok(())) => Finding::ok("mail", found),
        Ok(Err(error)) => Finding::missing("mail", format!("{found}: {error}"), cure),
        Err(_) => Finding::missing("mail", format!("{found}: no answer within {timeout:?}"), cure),
    }
}

/// Checks the free space where uploads are written first: in the storage folder or in the folder of temporary files.
fn disk(settings: &Settings) -> Option<Finding> {
    let folder = match settings.storage.kind {
        StorageKind::Folder => nearest_folder(&settings.storage.folder),
        StorageKind::S3 => std::env::temp_dir(),
    };
    let numbers = rustix::fs::statvfs(&folder).ok()?;
    let free = numbers.f_bavail.saturating_mul(numbers.f_frsize);
    let found = format!("{} GiB free at {}", free >> 30, folder.display());
    let needed = MIN_FREE_SPACE.max(settings.http.max_upload.0);
    Some(if free < needed {
        Finding::warn("disk", found, "free disk space, or lower http.max_upload")
    } else {
        Finding::ok("disk", found)
    })
}

fn cores(settings: &Settings) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let at_once = settings.queue.concurrency();
    let found = format!("{cores}; {at_once} video{} analyzed at the same time", if at_once == 1 { "" } else { "s" });
    if at_once > cores {
        return Finding::warn(
            "cores",
            found,
            "lower queue.concurrency: more videos than cores are not analyzed faster",
        );
    }
    Finding::ok("cores", found)
}

/// Returns the folder itself, or the nearest parent that exists.
fn nearest_folder(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// Checks whether this path could be created: the nearest existing folder must be writable for this user.
fn writable_parent(path: &Path) -> Result<(), String> {
    let folder = nearest_folder(path);
    rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK)
        .map_err(|error| format!("{} cannot be written: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;

    fn settings() -> Settings {
        Settings::defaults().unwrap()
    }

    #[test]
    fn without_the_library_it_is_missing_and_the_device_is_unknown() {
        let mut settings = settings();
        settings.engine.library = "/nowhere/libonnxruntime.so".to_owned();
        assert_eq!(onnx_runtime(&settings).state, State::Missing);
        assert_eq!(device(&settings), None);
    }

    #[tokio::test]
    async fn a_missing_sqlite_file_is_ok_and_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings();
        let file = folder.path().join("deep/visage.db");
        settings.database.url = crate::config::Secret::new(format!("sqlite://{}", file.display()));
        assert_eq!(database(&settings, TIMEOUT).await.state, State::Ok);
        assert!(!folder.path().join("deep").exists());
    }

    #[tokio::test]
    async fn an_unreachable_database_is_missing_and_its_password_is_not_shown() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut settings = settings();
        let url = format!("postgres://someone:hush-hush@127.0.0.1:{port}/none");
        settings.database.url = crate::config::Secret::new(url);
        let finding = database(&settings, Duration::from_secs(1)).await;
        assert_eq!(finding.state, State::Missing);
        assert!(!format!("{finding:?}").contains("hush-hush"));
    }

    #[test]
    fn the_gpu_decoder_is_reported_only_if_the_settings_use_one() {
        let mut settings = settings();
        assert_eq!(hwaccel(&settings), None);
        settings.video.hwaccel = Hwaccel::Auto;
        let auto = hwaccel(&settings).unwrap();
        assert_eq!(auto.state, State::Ok);
        settings.video.hwaccel = Hwaccel::Cuda;
        let cuda = hwaccel(&settings).unwrap();
        match cuda.state {
            State::Ok => assert!(cuda.found.starts_with("cuda") && auto.found.starts_with("cuda"), "{auto:?}"),
            _ => assert!(cuda.state == State::Missing && cuda.found.contains("video.hwaccel"), "{cuda:?}"),
        }
    }

    #[test]
    fn the_video_libraries_are_reported_with_version_and_folder() {
        let finding = video_libraries();
        assert_eq!(finding.state, State::Ok);
        assert!(finding.found.contains("OpenCV 4.") && finding.found.matches(" in /").count() == 2, "{finding:?}");
        let maps = "7f0-7f1 r-xp 00000000 08:01 12 /usr/lib/a folder/libavcodec.so.59.37.100\n\
                    7f2-7f3 rw-p 00000000 00:00 0 [heap]\n";
        assert_eq!(loaded_from(maps, "libavcodec.so"), Some(Path::new("/usr/lib/a folder")));
        assert_eq!(loaded_from(maps, "libavutil.so"), None);
    }

    #[test]
    fn a_missing_encoder_is_named() {
        assert_eq!(encoders(&[]).state, State::Ok);
        let lacking = encoders(&["libx264"]);
        assert!(lacking.state == State::Warn && lacking.found.contains("libx264"), "{lacking:?}");
    }

    #[test]
    fn webhooks_are_reported_with_the_number_of_secrets_and_without_the_secrets() {
        let mut settings = settings();
        assert!(webhooks(&settings).found.contains("switched off"));
        let secret = format!("whsec_{}", "A".repeat(32));
        settings.webhooks.secret.set(crate::config::Secret::new(format!("{secret} {secret}")));
        let finding = webhooks(&settings);
        assert!(finding.state == State::Ok && finding.found.contains("2 secrets"), "{finding:?}");
        assert!(!finding.found.contains("whsec_"));
        settings.webhooks.allow_private = true;
        assert_eq!(webhooks(&settings).state, State::Warn);
        settings.webhooks.secret.set(crate::config::Secret::new("whsec_?".to_owned()));
        assert_eq!(webhooks(&settings).state, State::Missing);
    }

    #[test]
    fn the_nearest_existing_folder_of_a_path_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest_folder(&folder.path().join("a/b/c")), folder.path());
        assert_eq!(nearest_folder(folder.path()), folder.path());
    }
}
