//! The one place where a container is opened.

use std::ffi::{CStr, CString};
use std::sync::Once;
use std::time::Duration;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::util::interrupt;
use ffmpeg_next::{Dictionary, ffi, media};

use super::{ProbeError, Source, streams};
use crate::config::Video;

/// Demuxers that may be tried, by FFmpeg's names.
const FORMATS: &str = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,gif,webp_anim";
/// The one for animated WebP, which FFmpeg 5 to 8 do not have.
const ANIMATED_WEBP: &CStr = c"webp_anim";
const FILE_PROTOCOLS: &str = "file";
const URL_PROTOCOLS: &str = "http,https,tcp,tls";
/// So many packets tell a poster from pictures that move, where the header does not.
const PACKETS_COUNTED: usize = 1000;
/// A server that sends nothing for this long is given up.
const STALL: Duration = Duration::from_secs(20);
/// A quick look into a file may take this long altogether, however the server trickles.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// Sets up FFmpeg, once a process; every opening calls it.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ffmpeg::format::network::init();
        // Without this, its errors have no words.
        ffmpeg::util::error::register_all();
        // What FFmpeg says of broken files helps nobody who runs a service, and could name an address.
        ffmpeg::util::log::set_level(ffmpeg::util::log::Level::Quiet);
    });
}

/// Whether this FFmpeg has a demuxer for animated WebP.
pub(super) fn reads_animated_webp() -> bool {
    // SAFETY: the name ends with a null character.
    !unsafe { ffi::av_find_input_format(ANIMATED_WEBP.as_ptr()) }.is_null()
}

/// Options of every opening: how long to wait, and that servers must be who they say.
fn reading() -> Vec<(&'static str, String)> {
    vec![
        ("rw_timeout", STALL.as_micros().to_string()),
        ("reconnect", "1".to_owned()),
        ("reconnect_delay_max", "2".to_owned()),
        ("tls_verify", "1".to_owned()),
    ]
}

/// The source as FFmpeg names it. A path gets its protocol in front, so that no file name is taken for an address.
fn location(source: &Source) -> Result<String, ProbeError> {
    let location = match source {
        Source::File(path) => {
            let path = path.to_str().ok_or_else(|| ProbeError::Unreadable("the path is not UTF-8".to_owned()))?;
            format!("file:{path}")
        }
        Source::Url(url) if url.starts_with("http://") || url.starts_with("https://") => url.clone(),
        Source::Url(_) => return Err(ProbeError::Unreadable("not an http or https address".to_owned())),
    };
    if location.contains('\0') {
        return Err(ProbeError::Unreadable("the name holds a null character".to_owned()));
    }
    Ok(location)
}

/// Opens a container and reads what it says of its streams. No picture larger than the limit is ever allocated: the
/// header is checked first, and the decoders that FFmpeg starts to look into streams are held to it. `stop` is asked
/// during every wait for the source, for as long as the container is open.
pub(super) fn open(
    source: &Source,
    limits: &Video,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<Input, ProbeError> {
    let mut input = open_once(source, limits, stop.clone())?;
    let is_unsure = |stream: &ffmpeg::Stream<'_>| {
        stream.parameters().medium() == media::Type::Video && streams::is_timed(stream) && stream.frames() == 0
    };
    if input.streams().filter(is_unsure).count() < 2 {
        return Ok(input);
    }
    // One of them may be a poster.
    let stills = stills(&mut input);
    let mut input = open_once(source, limits, stop)?;
    // SAFETY: the container is open, and has these streams: it is the same file.
    unsafe {
        let context = input.as_mut_ptr();
        for still in stills.into_iter().filter(|still| *still < (*context).nb_streams as usize) {
            (**(*context).streams.add(still)).disposition |= ffi::AV_DISPOSITION_TIMED_THUMBNAILS;
        }
    }
    Ok(input)
}

/// Streams of pictures that have one picture among the first packets, where another has more.
fn stills(input: &mut Input) -> Vec<usize> {
    let of_pictures = |stream: ffmpeg::Stream<'_>| stream.parameters().medium() == media::Type::Video;
    let mut counts: Vec<Option<u32>> = input.streams().map(|stream| of_pictures(stream).then_some(0)).collect();
    for _ in 0..PACKETS_COUNTED {
        let mut packet = ffmpeg::Packet::empty();
        match packet.read(input) {
            Ok(()) => {}
            Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => continue,
            Err(_) => break,
        }
        if let Some(Some(count)) = counts.get_mut(packet.stream()) {
            *count += 1;
        }
        if counts.iter().flatten().all(|count| *count > 1) {
            return Vec::new();
        }
    }
    if counts.iter().flatten().all(|count| *count < 2) {
        return Vec::new();
    }
    counts.iter().enumerate().filter(|(_, count)| count.is_some_and(|count| count < 2)).map(|(at, _)| at).collect()
}

fn open_once(source: &Source, limits: &Video, stop: impl Fn() -> bool + Send + 'static) -> Result<Input, ProbeError> {
    prepare();
    let location =
        CString::new(location(source)?).map_err(|_| ProbeError::Unreadable("a null character".to_owned()))?;
    let protocols = match source {
        Source::File(_) => FILE_PROTOCOLS,
        Source::Url(_) => URL_PROTOCOLS,
    };
    let mut options: Dictionary = reading().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    options.set("format_whitelist", FORMATS);
    options.set("protocol_whitelist", protocols);

    let interrupt = interrupt::new(Box::new(stop));
    // SAFETY: the context is allocated here and checked; FFmpeg frees it and sets the pointer to null when opening
    // fails, and otherwise `Input` becomes its only owner. The dictionary is taken out and put back, whatever FFmpeg
    // left of it, so it is freed once. The closure lives in the guard, which the `Input` keeps.
    let mut input = unsafe {
        let mut context = ffi::avformat_alloc_context();
        if context.is_null() {
            return Err(ProbeError::Unreadable("out of memory".to_owned()));
        }
        (*context).interrupt_callback = interrupt.interrupt;
        let mut raw = options.disown();
        let code = ffi::avformat_open_input(&raw mut context, location.as_ptr(), std::ptr::null(), &raw mut raw);
        drop(Dictionary::own(raw));
        if code < 0 {
            return Err(refusal(code.into()));
        }
        Input::wrap_with_interrupt(context, interrupt.guard)
    };

    for stream in input.streams() {
        let (width, height) = streams::size(&stream);
        check_pixels(width, height, limits)?;
    }
    let max_pixels = decoder_limit(limits).to_string();
    let mut raw: Vec<*mut ffi::AVDictionary> = input
        .streams()
        .map(|_| {
            let held: Dictionary = [("max_pixels", max_pixels.as_str())].into_iter().collect();
            // SAFETY: ownership goes to the vector, whose dictionaries are taken back below.
            unsafe { held.disown() }
        })
        .collect();
    // SAFETY: the context is open, and the array has one dictionary for each of its streams.
    let code = unsafe { ffi::avformat_find_stream_info(input.as_mut_ptr(), raw.as_mut_ptr()) };
    for dictionary in raw {
        // SAFETY: each came from `disown` above, as FFmpeg left it.
        drop(unsafe { Dictionary::own(dictionary) });
    }
    if code < 0 { Err(refusal(code.into())) } else { Ok(input) }
}

/// What a decoder is held to: the limit and the blocks that it rounds a picture's sides up to.
pub(super) fn decoder_limit(limits: &Video) -> i64 {
    let pixels = limits.max_pixels.saturating_add(limits.max_pixels / 8).saturating_add(1 << 16);
    i64::try_from(pixels.min(i32::MAX as u64)).unwrap_or(i64::MAX)
}

/// Refuses a picture with more pixels than the limit.
pub(super) fn check_pixels(width: u32, height: u32, limits: &Video) -> Result<(), ProbeError> {
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(ProbeError::TooLarge { width, height, limit: limits.max_pixels });
    }
    Ok(())
}

/// Whether an error of FFmpeg is the source's fault (the disk, the network, the server) and not the video's.
pub(super) fn is_source_failure(error: ffmpeg::Error) -> bool {
    use ffmpeg::Error as E;
    use ffmpeg::util::error as errno;
    match error {
        E::HttpBadRequest
        | E::HttpUnauthorized
        | E::HttpForbidden
        | E::HttpNotFound
        | E::HttpOther4xx
        | E::HttpServerError
        | E::Exit => true,
        E::Other { errno } => matches!(
            errno,
            errno::EIO
                | errno::ENOENT
                | errno::EACCES
                | errno::EPERM
                | errno::EISDIR
                | errno::EMFILE
                | errno::ENFILE
                | errno::ECONNREFUSED
                | errno::ECONNRESET
                | errno::ECONNABORTED
                | errno::ETIMEDOUT
                | errno::EHOSTUNREACH
                | errno::ENETUNREACH
                | errno::ENETDOWN
                | errno::EPIPE
        ),
        _ => false,
    }
}

/// The error that the source gave while the demuxer read from it. Some demuxers report a source that breaks off as the
/// end of the file.
pub(super) fn source_failure(input: &Input) -> Option<ffmpeg::Error> {
    // SAFETY: the container is open; a demuxer without a source of its own leaves the pointer null.
    let code = unsafe {
        let source = (*input.as_ptr()).pb;
        if source.is_null() { 0 } else { (*source).error }
    };
    (code < 0).then(|| ffmpeg::Error::from(code)).filter(|error| is_source_failure(*error))
}

/// Refuses to take a source that broke off for one that ended.
pub(super) fn check_source(input: &Input) -> Result<(), ProbeError> {
    source_failure(input).map_or(Ok(()), |error| Err(refusal(error)))
}

/// An error of FFmpeg in our words.
pub(super) fn refusal(error: ffmpeg::Error) -> ProbeError {
    if !is_source_failure(error) {
        return ProbeError::NotAVideo;
    }
    ProbeError::Unreadable(match error {
        ffmpeg::Error::Exit => "no answer in time".to_owned(),
        ffmpeg::Error::Other { errno } => std::io::Error::from_raw_os_error(errno).to_string(),
        ffmpeg::Error::HttpBadRequest => "the server answered 400".to_owned(),
        ffmpeg::Error::HttpUnauthorized => "the server answered 401".to_owned(),
        ffmpeg::Error::HttpForbidden => "the server answered 403".to_owned(),
        ffmpeg::Error::HttpNotFound => "the server answered 404".to_owned(),
        ffmpeg::Error::HttpServerError => "the server failed".to_owned(),
        _ => "the server refused".to_owned(),
    })
}
