//! One function a thing that is looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Finding, models};
use crate::cli::Failure;
use crate::clock::SystemClock;
use crate::config::{Device, Hwaccel, MailTransport, Precision, Settings, StorageKind};
use crate::engine::{Engine, Taken, library};
use crate::media;
use crate::report::webhook::Webhooks;
use crate::report::{Mailer, Reporter};
use crate::store::{Store, StoreError};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Less free space than this is worth a warning: a few uploads at their limit.
const LITTLE_SPACE: u64 = 5 << 30;

/// All checks, in the order in which a new user meets them.
pub fn all(settings: &Settings, config: Option<&Path>) -> Result<Vec<Finding>, Failure> {
    let mut findings = vec![settings_files(config)?, onnx_runtime(settings)];
    findings.extend(models::all(settings));
    // Before the models, as everywhere: FFmpeg takes no CUDA that was begun in another way.
    let hwaccel = hwaccel(settings);
    findings.extend(device(settings));
    findings.push(video_libraries());
    findings.extend(hwaccel);
    findings.push(encoders(&media::missing_encoders()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Run(format!("no runtime: {error}")))?;
    runtime.block_on(async {
        findings.push(database(settings, PATIENCE).await);
        findings.push(storage(settings, PATIENCE).await);
        findings.push(mail(settings, PATIENCE).await);
    });
    findings.push(webhooks(settings));
    findings.extend(disk(settings));
    findings.push(cores(settings));
    Ok(findings)
}

/// Where the settings in force came from; that they are valid is known by now.
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
            "scripts/fetch-onnxruntime.sh puts it into .runtime/; elsewhere name the file in engine.library",
        ),
    }
}

/// What the models run on; `None` where that cannot be told because the library or the model is missing.
fn device(settings: &Settings) -> Option<Finding> {
    library::find(&settings.engine.library).ok()?;
    let cure = "for CUDA: scripts/fetch-onnxruntime.sh .runtime cuda, and NVIDIA's libraries of CUDA 13 and cuDNN 9; \
                else set engine.device = \"cpu\"";
    let engine = match Engine::start(&settings.engine) {
        Ok(engine) => engine,
        Err(error) => return Some(Finding::missing("device", error.to_string(), cure)),
    };
    let emotion = &settings.vision.emotion;
    let path = settings.models.folder.join(&emotion.file);
    if !path.is_file() {
        return None;
    }
    // The first model loaded settles what `auto` comes to.
    if let Err(error) = engine.load(&emotion.name, &path) {
        return Some(Finding::missing("device", error.to_string(), cure));
    }
    let taken = engine.device()?;
    if taken == Taken::Cpu && settings.engine.precision == Precision::Fp16 {
        let cure = "set engine.precision = \"fp32\"";
        return Some(Finding::warn("device", "CPU, which is slower in half precision", cure));
    }
    Some(match taken {
        Taken::Cuda => Finding::ok("device", "CUDA"),
        Taken::Cpu if settings.engine.device == Device::Auto && Path::new("/dev/nvidiactl").exists() => {
            Finding::warn("device", "CPU, although there is an NVIDIA GPU", cure)
        }
        Taken::Cpu => Finding::ok("device", "CPU"),
    })
}

/// The libraries that decode: linked, so they are there. Their versions and folders help with bug reports, and where a machine has
/// several of them.
fn video_libraries() -> Finding {
    /// libavcodec's major versions in FFmpeg 5.1 and in FFmpeg 8.
    const TRIED: std::ops::RangeInclusive<u32> = 59..=62;

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
    if TRIED.contains(&(codec >> 16)) {
        return Finding::ok("video", found);
    }
    Finding::warn(
        "video",
        found,
        "visage was tried with FFmpeg 5.1 to 8 (libavcodec 59 to 62): build it with one of these",
    )
}

/// The folder of a shared library that this process has loaded, by the list of its memory maps.
fn loaded_from<'a>(maps: &'a str, library: &str) -> Option<&'a Path> {
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    let path = paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(library)))?;
    path.parent()
}

/// What decodes beside the CPU; `None` where nothing was asked for.
fn hwaccel(settings: &Settings) -> Option<Finding> {
    let asked = settings.video.hwaccel;
    if asked == Hwaccel::None {
        return None;
    }
    Some(match media::hwaccel(asked) {
        Ok(Some(name)) => Finding::ok("hwaccel", format!("{name} decodes what it can, the CPU the rest")),
        Ok(None) => Finding::ok("hwaccel", "no GPU that decodes; the CPU does"),
        Err(error) => {
            Finding::missing("hwaccel", error.to_string(), "is the GPU's driver there, and may this user use it?")
        }
    })
}

/// What writes thumbnails; Debian's FFmpeg has all of it.
fn encoders(missing: &[&str]) -> Finding {
    if missing.is_empty() {
        return Finding::ok("encoders", "H.264, GIF and WebP, for POST /thumbnail");
    }
    let found = format!("FFmpeg lacks {}; POST /thumbnail answers 503 where it needs that", missing.join(", "));
    Finding::warn("encoders", found, "link an FFmpeg with libx264 and libwebp, as Debian packages it")
}

/// Whether programs can be told of the end of an analysis.
fn webhooks(settings: &Settings) -> Finding {
    match Webhooks::new(&settings.webhooks) {
        Ok(None) => Finding::ok("webhooks", "switched off; webhooks.secret switches them on"),
        Ok(Some(_)) if settings.webhooks.allow_private => Finding::warn(
            "webhooks",
            "sent into private networks, too: whoever may send a video can make this machine call others there",
            "set webhooks.allow_private = false unless every caller is yours",
        ),
        Ok(Some(_)) => match settings.webhooks.secrets().count() {
            1 => Finding::ok("webhooks", "signed with one secret"),
            several => Finding::ok("webhooks", format!("signed with each of {several} secrets")),
        },
        Err(error) => Finding::missing("webhooks", error.reason, "give whsec_ and 24 to 64 random bytes in base64"),
    }
}

/// Whether the database answers and its tables are those of this program. Makes and changes no table.
async fn database(settings: &Settings, patience: Duration) -> Finding {
    let url = settings.database.url.expose();
    let (kind, cure) = if url.starts_with("sqlite:") {
        let file = url.trim_start_matches("sqlite:").trim_start_matches("//").split('?').next().unwrap_or_default();
        if !file.contains(":memory:") && !Path::new(file).exists() {
            return match writable_parent(Path::new(file)) {
                Ok(_) => Finding::ok("database", format!("SQLite; {file} is made at the first start")),
                Err(reason) => Finding::missing("database", reason, "name a file in a folder of yours in database.url"),
            };
        }
        ("SQLite", "is the file of database.url a database, and yours?")
    } else {
        ("Postgres", "is Postgres running, and are user, password, host and name in database.url right?")
    };
    let looking = crate::config::Database { migrate: false, max_connections: 1, ..settings.database.clone() };
    let answer = async {
        let store = Store::open(&looking).await?;
        store.ping().await
    };
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(())) => Finding::ok("database", format!("{kind}, tables up to date")),
        Ok(Err(StoreError::OldTables)) if settings.database.migrate => {
            Finding::ok("database", format!("{kind}; its tables are brought up to date at the next start"))
        }
        Ok(Err(error @ StoreError::OldTables)) => {
            Finding::missing("database", error.to_string(), "start `visage serve` once with database.migrate = true")
        }
        Ok(Err(error)) => Finding::missing("database", error.to_string(), cure),
        Err(_) => Finding::missing("database", format!("{kind} does not answer within {patience:?}"), cure),
    }
}

/// Whether videos can be written and read.
async fn storage(settings: &Settings, patience: Duration) -> Finding {
    let storage = &settings.storage;
    let (found, cure) = match storage.kind {
        StorageKind::Folder => {
            if let Err(reason) = writable_parent(&storage.folder) {
                return Finding::missing("storage", reason, "name a folder of yours in storage.folder");
            }
            (format!("the folder {}", storage.folder.display()), "name a folder of yours in storage.folder")
        }
        StorageKind::S3 => (
            format!("the bucket {}", storage.s3.bucket),
            "is the bucket there, and are endpoint, region, keys and path_style of [storage.s3] right?",
        ),
    };
    let answer = async {
        let blobs = crate::blob::open(storage, Arc::new(SystemClock)).await?;
        blobs.check().await
    };
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(())) => Finding::ok("storage", format!("{found} can be written and read")),
        Ok(Err(error)) => Finding::missing("storage", format!("{found}: {error}"), cure),
        Err(_) => Finding::missing("storage", format!("{found} does not answer within {patience:?}"), cure),
    }
}

/// Whether mails can leave.
async fn mail(settings: &Settings, patience: Duration) -> Finding {
    let mail = &settings.mail;
    let (found, cure) = match mail.transport {
        MailTransport::None => return Finding::ok("mail", "switched off"),
        MailTransport::Outbox => {
            (format!("as files in {}", mail.outbox.display()), "name a folder of yours in mail.outbox")
        }
        MailTransport::Smtp => (
            format!("through {}:{}", mail.smtp.host, mail.smtp.port),
            "is the server reachable, and are host, port, security and login of [mail.smtp] right?",
        ),
    };
    let mailer = match Reporter::new(settings).and_then(|reporter| Mailer::new(settings, reporter)) {
        Ok(Some(mailer)) => mailer,
        Ok(None) => return Finding::ok("mail", "switched off"),
        Err(error) => return Finding::missing("mail", error.to_string(), "mend the [report] and [mail] settings"),
    };
    match tokio::time::timeout(patience, mailer.check()).await {
        Ok(Ok(())) => Finding::ok("mail", found),
        Ok(Err(error)) => Finding::missing("mail", format!("{found}: {error}"), cure),
        Err(_) => Finding::missing("mail", format!("{found}: no answer within {patience:?}"), cure),
    }
}

/// Space where uploads land first: the folder of videos, or of temporary files.
fn disk(settings: &Settings) -> Option<Finding> {
    let folder = match settings.storage.kind {
        StorageKind::Folder => nearest_folder(&settings.storage.folder),
        StorageKind::S3 => std::env::temp_dir(),
    };
    let numbers = rustix::fs::statvfs(&folder).ok()?;
    let free = numbers.f_bavail.saturating_mul(numbers.f_frsize);
    let found = format!("{} GiB free at {}", free >> 30, folder.display());
    let wanted = LITTLE_SPACE.max(settings.http.max_upload.0);
    Some(if free < wanted {
        Finding::warn("disk", found, "make room, or lower http.max_upload")
    } else {
        Finding::ok("disk", found)
    })
}

fn cores(settings: &Settings) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let at_once = settings.queue.concurrency();
    let found = format!("{cores}; {at_once} video{} analyzed at a time", if at_once == 1 { "" } else { "s" });
    if at_once > cores {
        return Finding::warn("cores", found, "more videos at a time than cores only wait for each other");
    }
    Finding::ok("cores", found)
}

/// The folder itself, or the nearest one above it that exists.
fn nearest_folder(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// Whether a file or folder of that name could be made: its nearest folder is writable for this user.
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
    fn a_library_that_is_not_there_is_missing_and_leaves_the_device_open() {
        let mut settings = settings();
        settings.engine.library = "/nowhere/libonnxruntime.so".to_owned();
        assert_eq!(onnx_runtime(&settings).state, State::Missing);
        assert_eq!(device(&settings), None);
    }

    #[tokio::test]
    async fn a_database_that_is_not_made_yet_is_fine_and_stays_unmade() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings();
        let file = folder.path().join("deep/visage.db");
        settings.database.url = crate::config::Secret::new(format!("sqlite://{}", file.display()));
        assert_eq!(database(&settings, PATIENCE).await.state, State::Ok);
        assert!(!folder.path().join("deep").exists());
    }

    #[tokio::test]
    async fn a_database_that_refuses_is_missing_and_its_password_is_not_shown() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut settings = settings();
        let url = format!("postgres://someone:hush-hush@127.0.0.1:{port}/none");
        settings.database.url = crate::config::Secret::new(url);
        let finding = database(&settings, Duration::from_secs(1)).await;
        assert_eq!(finding.state, State::Missing);
        assert!(!format!("{finding:?}").contains("hush-hush"));
    }

    #[test]
    fn decoding_on_a_gpu_is_told_of_where_it_was_asked_for() {
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
    fn the_video_libraries_are_told_with_version_and_folder() {
        let finding = video_libraries();
        assert_eq!(finding.state, State::Ok);
        assert!(finding.found.contains("OpenCV 4.") && finding.found.matches(" in /").count() == 2, "{finding:?}");
        let maps = "7f0-7f1 r-xp 00000000 08:01 12 /usr/lib/a folder/libavcodec.so.59.37.100\n7f2-7f3 rw-p 00000000 00:00 0 [heap]\n";
        assert_eq!(loaded_from(maps, "libavcodec.so"), Some(Path::new("/usr/lib/a folder")));
        assert_eq!(loaded_from(maps, "libavutil.so"), None);
    }

    #[test]
    fn an_encoder_that_is_not_there_is_named() {
        assert_eq!(encoders(&[]).state, State::Ok);
        let lacking = encoders(&["libx264"]);
        assert!(lacking.state == State::Warn && lacking.found.contains("libx264"), "{lacking:?}");
    }

    #[test]
    fn webhooks_are_told_with_their_secrets_counted_and_none_shown() {
        let mut settings = settings();
        assert!(webhooks(&settings).found.contains("switched off"));
        let secret = format!("whsec_{}", "A".repeat(32));
        settings.webhooks.secret = crate::config::Secret::new(format!("{secret} {secret}"));
        let finding = webhooks(&settings);
        assert!(finding.state == State::Ok && finding.found.contains("2 secrets"), "{finding:?}");
        assert!(!finding.found.contains("whsec_"));
        settings.webhooks.allow_private = true;
        assert_eq!(webhooks(&settings).state, State::Warn);
        settings.webhooks.secret = crate::config::Secret::new("whsec_?".to_owned());
        assert_eq!(webhooks(&settings).state, State::Missing);
    }

    #[test]
    fn the_nearest_folder_of_a_path_that_is_not_there_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest_folder(&folder.path().join("a/b/c")), folder.path());
        assert_eq!(nearest_folder(folder.path()), folder.path());
    }
}
