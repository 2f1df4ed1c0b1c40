//! Safe wrappers for the parts of FFmpeg that `ffmpeg-next` does not cover, and for calls of libc that change this
//! process. All `unsafe` code of [`super`] is here.

use std::ffi::{CStr, CString, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::packet::Ref;
use ffmpeg_next::codec::{self, Parameters, decoder};
use ffmpeg_next::ffi as sys;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::sample::{Sample, Type};
use ffmpeg_next::software::{resampling, scaling};
use ffmpeg_next::util::error::ENOMEM;
use ffmpeg_next::util::interrupt::{self, InterruptGuard};
use ffmpeg_next::{Codec, Dictionary, Error, Packet, Rational, Stream, frame};
use opencv::core::{CV_8UC3, Mat, MatTrait, MatTraitConst, MatTraitConstManual, Rect};

use super::FramesError;
use super::budget::{Account, Budget, Charge};
use super::read_at::{ReadAt, ReadError};

/// The scaler writes complete blocks of this many pixels.
pub(super) const SCALER_BLOCK: usize = 32;

fn check(code: c_int) -> Result<(), Error> {
    if code < 0 { Err(code.into()) } else { Ok(()) }
}

// Containers.

/// Why a container could not be opened.
pub(super) enum OpenError {
    OutOfMemory,
    /// A read from the source failed.
    Source(Error),
    /// The demuxer failed.
    Demuxer(Error),
}

/// Opens a container. `stop` is called before every read, and during every wait for a server, as long as the container
/// is open.
pub(super) fn open_input(
    source: Arc<dyn ReadAt>,
    options: Dictionary<'_>,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<OpenInput, OpenError> {
    let interrupt = interrupt::new(Box::new(stop.clone()));
    let bytes = SourceBytes::new(source, Box::new(stop)).ok_or(OpenError::OutOfMemory)?;
    // SAFETY: the context is allocated here and checked. If opening fails, FFmpeg frees it, but not the bytes, and sets
    // the pointer to null. Otherwise `Input` becomes its only owner, and is dropped before the bytes. Ownership of the
    // dictionary, as FFmpeg left it, is taken back, so it is freed once. The closure is owned by the guard, which
    // `Input` keeps.
    unsafe {
        let mut context = sys::avformat_alloc_context();
        if context.is_null() {
            return Err(OpenError::OutOfMemory);
        }
        (*context).interrupt_callback = interrupt.interrupt;
        (*context).pb = bytes.context.as_ptr();
        let mut raw = options.disown();
        let code = sys::avformat_open_input(&raw mut context, c"".as_ptr(), null(), &raw mut raw);
        drop(Dictionary::own(raw));
        check(code).map_err(|error| bytes.failure().map_or(OpenError::Demuxer(error), OpenError::Source))?;
        Ok(OpenInput { input: Input::wrap_with_interrupt(context, interrupt.guard), bytes })
    }
}

/// An open container that reads from a [`ReadAt`].
pub(super) struct OpenInput {
    input: Input,
    /// The container has a pointer to it. This field is after the container, so that it is dropped later.
    bytes: SourceBytes,
}

impl OpenInput {
    /// The error of the first read from the source that failed, if one did. The errors of a demuxer do not tell: it may
    /// report a failed read as the end of the file, and a file that is cut off as a failed read.
    pub fn source_failure(&self) -> Option<Error> {
        self.bytes.failure()
    }
}

impl Deref for OpenInput {
    type Target = Input;

    fn deref(&self) -> &Input {
        &self.input
    }
}

impl DerefMut for OpenInput {
    fn deref_mut(&mut self) -> &mut Input {
        &mut self.input
    }
}

/// The buffer of a source, as large as those of FFmpeg's own protocols.
const SOURCE_BUFFER: usize = 32_768;

/// Gives the bytes of a source to FFmpeg.
struct SourceBytes {
    context: NonNull<sys::AVIOContext>,
    /// From `Box::into_raw`. The context has a pointer to it.
    state: NonNull<SourceState>,
}

struct SourceState {
    source: Arc<dyn ReadAt>,
    at: u64,
    stop: Box<dyn Fn() -> bool + Send>,
    /// The bytes of the last read.
    read: Box<[u8; SOURCE_BUFFER]>,
    /// The first error of a read.
    failure: Option<Error>,
}

// SAFETY: the state is `Send`, and only the context, which has a single owner, uses it. FFmpeg does not bind a context
// to a thread.
unsafe impl Send for SourceBytes {}

impl SourceBytes {
    /// Returns `None` if memory is missing.
    fn new(source: Arc<dyn ReadAt>, stop: Box<dyn Fn() -> bool + Send>) -> Option<Self> {
        let state = NonNull::from(Box::leak(Box::new(SourceState {
            source,
            at: 0,
            stop,
            read: Box::new([0; SOURCE_BUFFER]),
            failure: None,
        })));
        let size = SOURCE_BUFFER as c_int;
        // SAFETY: the buffer has this size, and the context takes ownership of it. The callbacks get the state, which
        // outlives the context.
        let context = unsafe {
            let buffer = sys::av_malloc(SOURCE_BUFFER).cast::<u8>();
            let opaque = state.as_ptr().cast();
            let context = if buffer.is_null() {
                null_mut()
            } else {
                sys::avio_alloc_context(buffer, size, 0, opaque, Some(read_source), None, Some(seek_source))
            };
            if context.is_null() {
                sys::av_free(buffer.cast());
                drop(Box::from_raw(state.as_ptr()));
            }
            context
        };
        NonNull::new(context).map(|context| Self { context, state })
    }

    fn failure(&self) -> Option<Error> {
        // SAFETY: the state lives as long as this value. FFmpeg changes it only while one of its functions runs.
        unsafe { self.state.as_ref() }.failure
    }
}

impl Drop for SourceBytes {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: no container uses the context any more. FFmpeg may have replaced the buffer, and the context has the
        // current one. The state came from a box and is freed once.
        unsafe {
            sys::av_freep((&raw mut (*context).buffer).cast());
            sys::avio_context_free(&raw mut context);
            drop(Box::from_raw(self.state.as_ptr()));
        }
    }
}

unsafe extern "C" fn read_source(state: *mut c_void, buffer: *mut u8, size: c_int) -> c_int {
    // SAFETY: FFmpeg calls with the state of the context. The calls of one context do not overlap.
    let state = unsafe { &mut *state.cast::<SourceState>() };
    if (state.stop)() {
        state.failure.get_or_insert(Error::Exit);
        return sys::AVERROR_EXIT;
    }
    // The bytes are read elsewhere first: the buffer may be uninitialised, and at the end of the source FFmpeg still
    // needs what it holds.
    // FFmpeg asks for as many bytes as a box of the file says that it has. It asks again for the rest.
    let room = usize::try_from(size).unwrap_or(0).min(SOURCE_BUFFER);
    match state.source.read_at(&mut state.read[..room], state.at) {
        Ok(0) => sys::AVERROR_EOF,
        Ok(read) => {
            let bytes = &state.read[..read];
            // SAFETY: FFmpeg's buffer has room for `size` bytes, and `bytes` is not longer.
            unsafe { buffer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            state.at += read as u64;
            c_int::try_from(read).unwrap_or(size)
        }
        Err(ReadError(code)) => {
            state.failure.get_or_insert(code.into());
            code
        }
    }
}

unsafe extern "C" fn seek_source(state: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: FFmpeg calls with the state of the context. The calls of one context do not overlap.
    let state = unsafe { &mut *state.cast::<SourceState>() };
    let size = state.source.size().and_then(|size| i64::try_from(size).ok());
    let from = match whence & !(sys::AVSEEK_FORCE as c_int) {
        libc::SEEK_SET => Some(0),
        libc::SEEK_CUR => i64::try_from(state.at).ok(),
        libc::SEEK_END => size,
        whence if whence == sys::AVSEEK_SIZE as c_int => {
            return size.unwrap_or(sys::AVERROR(libc::ENOSYS).into());
        }
        _ => None,
    };
    let to = from.and_then(|from| from.checked_add(offset)).filter(|to| *to >= 0);
    let Some(to) = to else { return sys::AVERROR(libc::EINVAL).into() };
    state.at = to.unsigned_abs();
    to
}

/// A source that FFmpeg reads over the network.
pub(super) struct UrlReader {
    context: NonNull<sys::AVIOContext>,
    /// The context has a pointer to its closure. This field is after the context, so that it is dropped later.
    _interrupt: InterruptGuard,
}

// SAFETY: the context has a single owner, and FFmpeg does not bind it to a thread.
unsafe impl Send for UrlReader {}

impl UrlReader {
    /// Connects. `stop` is called during every wait, as long as the connection is open.
    pub fn open(
        location: &CStr,
        options: Dictionary<'_>,
        stop: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, Error> {
        let interrupt = interrupt::new(Box::new(stop));
        let (mut context, flags) = (null_mut(), sys::AVIO_FLAG_READ as c_int);
        // SAFETY: FFmpeg sets the pointer only on success. Ownership of the dictionary is taken back. The closure is
        // owned by the guard, which is dropped after the context.
        let code = unsafe {
            let mut raw = options.disown();
            let (location, callback) = (location.as_ptr(), &raw const interrupt.interrupt);
            let code = sys::avio_open2(&raw mut context, location, flags, callback, &raw mut raw);
            drop(Dictionary::own(raw));
            code
        };
        check(code)?;
        let context = NonNull::new(context).ok_or(Error::Unknown)?;
        Ok(Self { context, _interrupt: interrupt.guard })
    }

    /// The size in bytes, if the server states it.
    pub fn size(&mut self) -> Option<u64> {
        // SAFETY: the context is open.
        u64::try_from(unsafe { sys::avio_size(self.context.as_ptr()) }).ok()
    }

    /// Reads bytes from this position on, at most as many as the buffer holds; none at the end.
    pub fn read_at(&mut self, buffer: &mut [u8], at: u64) -> Result<usize, ReadError> {
        let size = c_int::try_from(buffer.len()).unwrap_or(c_int::MAX);
        let at = i64::try_from(at).map_err(|_| ReadError(sys::AVERROR(libc::EINVAL)))?;
        // SAFETY: the context is open, and the buffer has room for `size` bytes.
        let read = unsafe {
            let context = self.context.as_ptr();
            // Without an offset, `avio_seek` returns the position.
            if sys::avio_seek(context, 0, libc::SEEK_CUR) != at {
                let moved = sys::avio_seek(context, at, libc::SEEK_SET);
                if moved < 0 {
                    return Err(ReadError(c_int::try_from(moved).unwrap_or(sys::AVERROR(libc::EIO))));
                }
            }
            sys::avio_read_partial(context, buffer.as_mut_ptr(), size)
        };
        if read == sys::AVERROR_EOF { Ok(0) } else { usize::try_from(read).map_err(|_| ReadError(read)) }
    }
}

impl Drop for UrlReader {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: the context is open, and is not used after this call.
        unsafe { sys::avio_closep(&raw mut context) };
    }
}

/// Reads packets until the properties of all streams are known. The options apply to the decoders of all streams.
pub(super) fn find_stream_info(input: &mut Input, options: &[(&str, &str)]) -> Result<(), Error> {
    let streams = input.nb_streams() as usize;
    let dictionaries = (0..streams).map(|_| options.iter().copied().collect::<Dictionary<'_>>());
    // SAFETY: ownership of the dictionaries goes to the vector and is taken back below.
    let mut raw: Vec<*mut sys::AVDictionary> = dictionaries.map(|options| unsafe { options.disown() }).collect();
    // SAFETY: the container is open, and the vector has one dictionary for each of its streams.
    let code = unsafe { sys::avformat_find_stream_info(input.as_mut_ptr(), raw.as_mut_ptr()) };
    for dictionary in raw {
        // SAFETY: each came from `disown` above, as FFmpeg left it.
        drop(unsafe { Dictionary::own(dictionary) });
    }
    check(code)
}

/// Whether the demuxer finds streams while it reads packets, because the container has no header that lists them.
pub(super) fn finds_streams_late(input: &Input) -> bool {
    // SAFETY: the container is open.
    unsafe { (*input.as_ptr()).ctx_flags & sys::AVFMTCTX_NOHEADER as c_int != 0 }
}

/// Whether FFmpeg has a demuxer of this name.
pub(super) fn has_demuxer(name: &CStr) -> bool {
    // SAFETY: the name ends with a null character.
    !unsafe { sys::av_find_input_format(name.as_ptr()) }.is_null()
}

/// The ids of all codecs that FFmpeg can decode.
pub(super) fn decoder_ids() -> Vec<codec::Id> {
    let mut state = null_mut();
    // SAFETY: FFmpeg keeps its position in `state`. Codecs are constants of FFmpeg.
    let codecs = std::iter::from_fn(|| unsafe { sys::av_codec_iterate(&raw mut state).as_ref() });
    // SAFETY: as above.
    let decoders = codecs.filter(|codec| unsafe { sys::av_codec_is_decoder(&raw const **codec) } != 0);
    decoders.map(|codec| codec.id.into()).collect()
}

/// The id of the codec with FFmpeg's name.
pub(super) fn codec_by_name(name: &str) -> Option<codec::Id> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name ends with a null character. A descriptor is a constant of FFmpeg.
    let descriptor = unsafe { sys::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() }?;
    Some(descriptor.id.into())
}

/// The size of the source in bytes, if known.
pub(super) fn source_size(input: &mut Input) -> Option<u64> {
    // SAFETY: the container is open. FFmpeg accepts a null pointer.
    let size = unsafe { sys::avio_size((*input.as_mut_ptr()).pb) };
    u64::try_from(size).ok()
}

/// Reads bytes of the source from this position on. Returns fewer bytes at the end of the source, and `None` on
/// failure.
pub(super) fn read_source_at<'a>(input: &mut Input, at: u64, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let (at, size) = (i64::try_from(at).ok()?, c_int::try_from(buffer.len()).ok()?);
    // SAFETY: the container is open. A seek fails for a null pointer. The buffer has room for `size` bytes.
    let read = unsafe {
        let source = (*input.as_mut_ptr()).pb;
        if sys::avio_seek(source, at, libc::SEEK_SET) < 0 {
            return None;
        }
        sys::avio_read(source, buffer.as_mut_ptr(), size)
    };
    buffer.get(..usize::try_from(read).ok()?)
}

/// Seeks to the last key frame before `end`, in units of `AV_TIME_BASE`. If there is none, seeks to a later one.
pub(super) fn seek(input: &mut Input, end: i64) -> Result<(), Error> {
    // SAFETY: the container is open.
    check(unsafe { sys::avformat_seek_file(input.as_mut_ptr(), -1, i64::MIN, end, i64::MAX, 0) })
}

/// Calls a function with a stream of the container, if there is one of this index.
fn with_stream(input: &mut Input, index: usize, change: impl FnOnce(&mut sys::AVStream)) {
    // SAFETY: the container is open and has `nb_streams` streams. The exclusive borrow of the container covers them.
    unsafe {
        let context = input.as_mut_ptr();
        if index < (*context).nb_streams as usize {
            change(&mut **(*context).streams.add(index));
        }
    }
}

/// Makes the demuxer discard the packets of a stream.
pub(super) fn discard_stream(input: &mut Input, index: usize) {
    with_stream(input, index, |stream| stream.discard = sys::AVDiscard::AVDISCARD_ALL);
}

/// Marks a stream as still images.
pub(super) fn mark_as_thumbnails(input: &mut Input, index: usize) {
    with_stream(input, index, |stream| stream.disposition |= sys::AV_DISPOSITION_TIMED_THUMBNAILS);
}

// Streams and their codec parameters.

/// The `AV_DISPOSITION_*` flags of a stream.
pub(super) fn disposition(stream: &Stream<'_>) -> c_int {
    // SAFETY: the stream belongs to an open container.
    unsafe { (*stream.as_ptr()).disposition }
}

/// The pixel aspect ratio in the header of the container.
pub(super) fn container_aspect_ratio(stream: &Stream<'_>) -> Rational {
    // SAFETY: the stream belongs to an open container.
    unsafe { (*stream.as_ptr()).sample_aspect_ratio }.into()
}

fn raw(parameters: &Parameters) -> &sys::AVCodecParameters {
    // SAFETY: the pointer is valid as long as the parameters, which own the parameters or keep their container.
    unsafe { &*parameters.as_ptr() }
}

/// The pixel aspect ratio in the stream.
pub(super) fn coded_aspect_ratio(parameters: &Parameters) -> Rational {
    raw(parameters).sample_aspect_ratio.into()
}

/// Width and height in pixels.
pub(super) fn coded_size(parameters: &Parameters) -> (c_int, c_int) {
    (raw(parameters).width, raw(parameters).height)
}

/// Whether the stream has this pixel format.
pub(super) fn has_pixel_format(parameters: &Parameters, format: sys::AVPixelFormat) -> bool {
    raw(parameters).format == format as c_int
}

pub(super) fn bit_rate(parameters: &Parameters) -> i64 {
    raw(parameters).bit_rate
}

/// The codec tag (FourCC) in the container.
pub(super) fn codec_tag(parameters: &Parameters) -> u32 {
    raw(parameters).codec_tag
}

/// Whether the stream is progressive, or does not state its field order.
pub(super) fn is_progressive(parameters: &Parameters) -> bool {
    let order = raw(parameters).field_order;
    order == sys::AVFieldOrder::AV_FIELD_PROGRESSIVE || order == sys::AVFieldOrder::AV_FIELD_UNKNOWN
}

/// Whether every frame of the codec is a key frame.
pub(super) fn is_intra_only(parameters: &Parameters) -> bool {
    // SAFETY: a codec descriptor is a constant of FFmpeg. The pointer is null for an unknown codec.
    let descriptor = unsafe { sys::avcodec_descriptor_get(raw(parameters).codec_id).as_ref() };
    descriptor.is_some_and(|descriptor| descriptor.props & sys::AV_CODEC_PROP_INTRA_ONLY != 0)
}

/// The decoder configuration of a stream, such as the `avcC` or `hvcC` record.
pub(super) fn extradata(parameters: &Parameters) -> &[u8] {
    let raw = raw(parameters);
    let size = usize::try_from(raw.extradata_size).unwrap_or(0);
    if raw.extradata.is_null() {
        return &[];
    }
    // SAFETY: `extradata` has `extradata_size` bytes, and lives as long as the parameters.
    unsafe { std::slice::from_raw_parts(raw.extradata, size) }
}

// Packets.

/// Whether an edit list hides the frame of a packet.
pub(super) fn is_discarded(packet: &Packet) -> bool {
    // SAFETY: the packet is valid. The binding has no name for this flag.
    unsafe { (*packet.as_ptr()).flags & sys::AV_PKT_FLAG_DISCARD != 0 }
}

/// Whether a packet is encrypted (ISO/IEC 23001-7).
pub(super) fn is_encrypted(packet: &Packet) -> bool {
    let kind = sys::AVPacketSideDataType::AV_PKT_DATA_ENCRYPTION_INFO;
    // SAFETY: the packet is valid. The size is not requested.
    !unsafe { sys::av_packet_get_side_data(packet.as_ptr(), kind, null_mut()) }.is_null()
}

// Decoders.

/// Limits the size of frames. FFmpeg refuses larger frames before it allocates memory for them.
pub(super) fn set_max_pixels(decoder: &mut codec::Context, max_pixels: i64) {
    // SAFETY: the context is valid.
    unsafe { (*decoder.as_mut_ptr()).max_pixels = max_pixels };
}

/// Makes opening fail unless the decoder's name is in this list, which is separated by commas.
pub(super) fn set_codec_whitelist(decoder: &mut codec::Context, names: &str) -> Result<(), Error> {
    let names = CString::new(names).map_err(|_| Error::InvalidData)?;
    // SAFETY: the context is valid and begins with a class that has this option. FFmpeg copies the text.
    check(unsafe { sys::av_opt_set(decoder.as_mut_ptr().cast(), c"codec_whitelist".as_ptr(), names.as_ptr(), 0) })
}

/// A decoder of pictures whose frames and threads are charged to a budget.
pub(super) struct ChargedDecoder {
    decoder: decoder::Video,
    /// The decoder has a pointer to it. This field is after the decoder, so that it is dropped later.
    _account: Arc<Account>,
}

impl Deref for ChargedDecoder {
    type Target = decoder::Video;

    fn deref(&self) -> &decoder::Video {
        &self.decoder
    }
}

impl DerefMut for ChargedDecoder {
    fn deref_mut(&mut self) -> &mut decoder::Video {
        &mut self.decoder
    }
}

/// Opens a decoder of pictures. Its frames are allocated by [`get_buffer`].
pub(super) fn open_decoder(
    mut context: codec::Context,
    time_base: Option<Rational>,
    budget: &Arc<Budget>,
) -> Result<ChargedDecoder, Error> {
    let account = Account::new(budget.clone());
    // SAFETY: the context is valid and not open yet. The account outlives it: `account` is dropped after the context if
    // opening fails, and after the decoder otherwise.
    unsafe {
        let raw = context.as_mut_ptr();
        (*raw).opaque = Arc::as_ptr(&account).cast_mut().cast();
        (*raw).get_buffer2 = Some(get_buffer);
    }
    let mut decoder = context.decoder();
    if let Some(time_base) = time_base {
        decoder.set_packet_time_base(time_base);
    }
    Ok(ChargedDecoder { decoder: decoder.video()?, _account: account })
}

/// The number of frames that a decoder holds back to reorder them, as far as it knows.
pub(super) fn reorder_delay(decoder: &decoder::Video) -> c_int {
    // SAFETY: the decoder is open.
    unsafe { (*decoder.as_ptr()).has_b_frames }
}

/// Whether the library of a decoder decodes on threads of its own, which FFmpeg does not know.
pub(super) fn has_own_threads(decoder: &decoder::Video) -> bool {
    // SAFETY: the decoder is open, so it has a codec, which is a constant of FFmpeg.
    let codec = unsafe { (*decoder.as_ptr()).codec.as_ref() };
    codec.is_some_and(|codec| codec.capabilities & sys::AV_CODEC_CAP_OTHER_THREADS as c_int != 0)
}

/// Allocates a frame as FFmpeg does by default, and charges it to the account of the decoder. FFmpeg calls it on any of
/// the threads of the decoder.
unsafe extern "C" fn get_buffer(context: *mut sys::AVCodecContext, frame: *mut sys::AVFrame, flags: c_int) -> c_int {
    let out_of_memory = sys::AVERROR(ENOMEM);
    // SAFETY: FFmpeg calls with a valid context and frame. `opaque` is the account of `open_decoder`, which outlives
    // the decoder and its threads; its reference count is not changed here.
    let (account, bytes, pixels) = unsafe {
        let account = ManuallyDrop::new(Arc::from_raw((*context).opaque.cast::<Account>()));
        let (width, height) = ((*frame).width, (*frame).height);
        let pixels = u64::from(width.unsigned_abs()) * u64::from(height.unsigned_abs());
        (account, picture_bytes((*frame).format, width, height), pixels)
    };
    let Some(charge) = account.charge(bytes, pixels) else { return out_of_memory };
    // SAFETY: as above. FFmpeg copies `opaque_ref` with each reference to the frame, so the charge is released with the
    // last one.
    unsafe {
        let code = sys::avcodec_default_get_buffer2(context, frame, flags);
        if code < 0 {
            return code;
        }
        let charge = Box::into_raw(Box::new(charge)).cast::<u8>();
        let token = sys::av_buffer_create(charge, size_of::<Charge>(), Some(release_charge), null_mut(), 0);
        if token.is_null() {
            release_charge(null_mut(), charge);
            return out_of_memory;
        }
        sys::av_buffer_unref(&raw mut (*frame).opaque_ref);
        (*frame).opaque_ref = token;
        code
    }
}

unsafe extern "C" fn release_charge(_: *mut c_void, charge: *mut u8) {
    // SAFETY: `get_buffer` made the pointer from a box. FFmpeg calls this once.
    drop(unsafe { Box::from_raw(charge.cast::<Charge>()) });
}

/// Whether the frame was allocated by [`get_buffer`].
pub(super) fn is_charged(frame: &frame::Video) -> bool {
    // SAFETY: the frame is valid.
    unsafe { !(*frame.as_ptr()).opaque_ref.is_null() }
}

/// The size of a picture in bytes; 0 if it is in GPU memory or its format is unknown.
fn picture_bytes(format: c_int, width: c_int, height: c_int) -> u64 {
    // SAFETY: the number is a pixel format of the linked FFmpeg, or -1, and the bindings have all of them. No memory is
    // accessed.
    let size = unsafe {
        let format = std::mem::transmute::<c_int, sys::AVPixelFormat>(format);
        sys::av_image_get_buffer_size(format, width, height, 1)
    };
    u64::try_from(size).unwrap_or(0)
}

/// The size of a decoded frame in bytes. A stream of unknown format is taken for one of 8 bits at 4:2:0.
pub(super) fn frame_bytes(parameters: &Parameters) -> u64 {
    let (width, height) = coded_size(parameters);
    match picture_bytes(raw(parameters).format, width, height) {
        0 => picture_bytes(sys::AVPixelFormat::AV_PIX_FMT_YUV420P as c_int, width, height),
        bytes => bytes,
    }
}

/// The number of frames that a decoder holds back to reorder them, by the first packets.
pub(super) fn video_delay(parameters: &Parameters) -> u64 {
    u64::try_from(raw(parameters).video_delay).unwrap_or(0)
}

/// The level in the stream, such as `general_level_idc`.
pub(super) fn level(parameters: &Parameters) -> c_int {
    raw(parameters).level
}

// Frames.

/// The colour space and the colour range of a frame.
pub(super) fn colour_space(frame: &frame::Video) -> (sys::AVColorSpace, sys::AVColorRange) {
    // SAFETY: the frame is valid.
    unsafe { ((*frame.as_ptr()).colorspace, (*frame.as_ptr()).color_range) }
}

/// Copies the time stamp, the colour space and further properties of a frame.
pub(super) fn copy_props(to: &mut frame::Video, from: &frame::Video) -> Result<(), Error> {
    // SAFETY: both frames are valid.
    check(unsafe { sys::av_frame_copy_props(to.as_mut_ptr(), from.as_ptr()) })
}

/// Applies the cropping that the frame states.
pub(super) fn apply_cropping(frame: &mut frame::Video) -> Result<(), Error> {
    // SAFETY: the frame is valid.
    check(unsafe { sys::av_frame_apply_cropping(frame.as_mut_ptr(), 0) })
}

// Scaling and resampling.

/// A scaler that can be moved to another thread.
pub(super) struct Scaler(pub scaling::Context);

// SAFETY: a context has a single owner, and libswscale does not bind it to a thread.
unsafe impl Send for Scaler {}

/// Sets the colour space and range of the input. For a pixel format without a colour space, this does nothing.
pub(super) fn set_colour_space(scaler: &mut scaling::Context, space: sys::AVColorSpace, is_full_range: bool) {
    let space = match space {
        sys::AVColorSpace::AVCOL_SPC_BT709 => sys::SWS_CS_ITU709,
        sys::AVColorSpace::AVCOL_SPC_BT2020_NCL | sys::AVColorSpace::AVCOL_SPC_BT2020_CL => sys::SWS_CS_BT2020,
        sys::AVColorSpace::AVCOL_SPC_SMPTE240M => sys::SWS_CS_SMPTE240M,
        sys::AVColorSpace::AVCOL_SPC_FCC => sys::SWS_CS_FCC,
        _ => sys::SWS_CS_DEFAULT,
    };
    let (full, range, one) = (1, c_int::from(is_full_range), 1 << 16);
    // SAFETY: the context is initialised, and the coefficients are constants of the library.
    unsafe {
        let coefficients = sys::sws_getCoefficients(space);
        let context = scaler.as_mut_ptr();
        sys::sws_setColorspaceDetails(context, coefficients, range, coefficients, full, 0, one, one);
    }
}

/// Sets the colour space of the output to BT.709 with values from 16 to 235. The input has to be RGB.
pub(super) fn set_output_colour_space(scaler: &mut scaling::Context) {
    let (full, limited, one) = (1, 0, 1 << 16);
    // SAFETY: the context is initialised, and the coefficients are constants of the library.
    unsafe {
        let coefficients = sys::sws_getCoefficients(sys::SWS_CS_ITU709);
        let context = scaler.as_mut_ptr();
        sys::sws_setColorspaceDetails(context, coefficients, full, coefficients, limited, 0, one, one);
    }
}

fn is_input_of(scaler: &scaling::Context, frame: &frame::Video) -> bool {
    let input = scaler.input();
    (frame.format(), frame.width(), frame.height()) == (input.format, input.width, input.height)
}

/// Scales a frame into a new one. Checks FFmpeg's return value, which `scaling::Context::run` ignores: a partly written
/// frame would show the previous content of its memory, such as frames of another video.
pub(super) fn scale(scaler: &mut scaling::Context, frame: &frame::Video) -> Result<frame::Video, Error> {
    let output = *scaler.output();
    if !is_input_of(scaler, frame) {
        return Err(Error::InputChanged);
    }
    let mut scaled = frame::Video::new(output.format, output.width, output.height);
    // SAFETY: both frames are valid and have the formats and sizes of the context. If memory for the new frame is
    // missing, it has no planes, and FFmpeg is not called.
    let lines = unsafe {
        if (*scaled.as_ptr()).data[0].is_null() {
            return Err(Error::Other { errno: ENOMEM });
        }
        let (read, write) = (frame.as_ptr(), scaled.as_mut_ptr());
        sys::sws_scale(
            scaler.as_mut_ptr(),
            (*read).data.as_ptr().cast(),
            (*read).linesize.as_ptr(),
            0,
            (*read).height,
            (*write).data.as_ptr(),
            (*write).linesize.as_ptr(),
        )
    };
    if u32::try_from(lines) == Ok(output.height) { Ok(scaled) } else { Err(Error::External) }
}

/// Scales a frame to a BGR picture.
pub(super) fn scale_to_picture(scaler: &mut scaling::Context, frame: &frame::Video) -> Result<Mat, FramesError> {
    let failed = |error: opencv::Error| FramesError::Decoder(format!("OpenCV: {error}"));
    let (columns, rows) = (scaler.output().width as usize, scaler.output().height as usize);
    let padded = columns.next_multiple_of(SCALER_BLOCK);
    let size =
        |length: usize| c_int::try_from(length).map_err(|_| FramesError::Decoder("a picture is too large".to_owned()));
    // SAFETY: the scaler writes every pixel of the requested columns. The padding is cropped below.
    let mut picture = unsafe { Mat::new_rows_cols(size(rows)?, size(padded)?, CV_8UC3) }.map_err(failed)?;
    scale_into(scaler, frame, &mut picture)
        .map_err(|_| FramesError::Decoder("a picture could not be converted".to_owned()))?;
    if padded == columns {
        return Ok(picture);
    }
    let cropped = Mat::roi(&picture, Rect::new(0, 0, size(columns)?, size(rows)?)).map_err(failed)?;
    cropped.try_clone().map_err(failed)
}

/// Scales a frame into a BGR picture. The picture has the height of the output, and its width rounded up to complete
/// blocks of [`SCALER_BLOCK`] pixels.
pub(super) fn scale_into(scaler: &mut scaling::Context, frame: &frame::Video, picture: &mut Mat) -> Result<(), Error> {
    let output = *scaler.output();
    let (rows, columns) = (u32::try_from(picture.rows()), usize::try_from(picture.cols()));
    let has_room = picture.typ() == CV_8UC3
        && output.format == ffmpeg::format::Pixel::BGR24
        && rows == Ok(output.height)
        && columns.is_ok_and(|columns| columns >= (output.width as usize).next_multiple_of(SCALER_BLOCK));
    if !has_room || !is_input_of(scaler, frame) {
        return Err(Error::InputChanged);
    }
    let stride = picture.mat_step().first().copied().unwrap_or(0);
    let strides: [c_int; 4] = [c_int::try_from(stride).unwrap_or(0), 0, 0, 0];
    let planes: [*mut u8; 4] = [picture.data_mut(), null_mut(), null_mut(), null_mut()];
    // SAFETY: the frame has the format and size of the context. The picture has one plane of `rows` lines of `stride`
    // bytes, and each line holds complete blocks.
    let lines = unsafe {
        let read = frame.as_ptr();
        sys::sws_scale(
            scaler.as_mut_ptr(),
            (*read).data.as_ptr().cast(),
            (*read).linesize.as_ptr(),
            0,
            (*read).height,
            planes.as_ptr(),
            strides.as_ptr(),
        )
    };
    if u32::try_from(lines) == Ok(output.height) { Ok(()) } else { Err(Error::External) }
}

/// Resamples a frame to interleaved floats. Without a frame, returns the samples that are left in the filter. `output`
/// is resized. Returns the number of samples a channel.
pub(super) fn resample(
    resampler: &mut resampling::Context,
    frame: Option<&frame::Audio>,
    channels: usize,
    output: &mut Vec<f32>,
) -> Result<usize, Error> {
    let (from, to) = (*resampler.input(), *resampler.output());
    let is_input = |frame: &frame::Audio| {
        frame.format() == from.format && i32::from(frame.channels()) >= from.channel_layout.channels()
    };
    let is_output = to.format == Sample::F32(Type::Packed)
        && usize::try_from(to.channel_layout.channels()).is_ok_and(|count| count <= channels);
    if !frame.is_none_or(is_input) || !is_output {
        return Err(Error::InputChanged);
    }
    let samples = frame.map_or(Ok(0), |frame| c_int::try_from(frame.samples())).map_err(|_| Error::InvalidData)?;
    // SAFETY: the frame has the input format, and each plane in `extended_data` has `samples` samples. FFmpeg writes at
    // most `capacity` floats a channel, and the vector has that size.
    let written = unsafe {
        let planes = frame.map_or(null_mut(), |frame| (*frame.as_ptr()).extended_data);
        let context = resampler.as_mut_ptr();
        let capacity = sys::swr_get_out_samples(context, samples).max(0);
        output.resize(capacity as usize * channels, 0.0);
        let mut out = output.as_mut_ptr().cast::<u8>();
        sys::swr_convert(context, &raw mut out, capacity, planes.cast(), samples)
    };
    usize::try_from(written).map_err(|_| Error::from(written))
}

// GPUs.

/// An open hardware device of FFmpeg.
pub(super) struct HwContext(NonNull<sys::AVBufferRef>);

// SAFETY: FFmpeg counts references to the device atomically, and its decoders share it between threads.
unsafe impl Send for HwContext {}
// SAFETY: as above. The device is not changed after it is opened.
unsafe impl Sync for HwContext {}

impl HwContext {
    pub fn open(kind: sys::AVHWDeviceType, options: &[(&str, &str)]) -> Result<Self, Error> {
        let options: Dictionary<'_> = options.iter().copied().collect();
        let mut context = null_mut();
        // SAFETY: ownership of the dictionary is taken back after the call. FFmpeg sets the pointer only on success.
        let code = unsafe {
            let raw = options.disown();
            let code = sys::av_hwdevice_ctx_create(&raw mut context, kind, null(), raw, 0);
            drop(Dictionary::own(raw));
            code
        };
        check(code)?;
        NonNull::new(context).map(Self).ok_or(Error::Unknown)
    }

    /// Attaches the device to a decoder that is not open yet.
    pub fn attach_to(&self, decoder: &mut codec::Context) {
        // SAFETY: the decoder owns the new reference. If memory is missing, the reference is null and the decoder has
        // no device.
        unsafe { (*decoder.as_mut_ptr()).hw_device_ctx = sys::av_buffer_ref(self.0.as_ptr()) };
    }
}

impl Drop for HwContext {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: this reference is owned, and is not used after this call.
        unsafe { sys::av_buffer_unref(&raw mut context) };
    }
}

/// Whether a decoder supports devices of this type.
pub(super) fn supports_hw_device(codec: Codec, kind: sys::AVHWDeviceType) -> bool {
    // SAFETY: the codec and its list of configurations are constants of FFmpeg, and the list ends with null.
    let mut configs = (0..).map_while(|n| unsafe { sys::avcodec_get_hw_config(codec.as_ptr(), n).as_ref() });
    let method = sys::AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as c_int;
    configs.any(|config| config.device_type == kind && config.methods & method != 0)
}

/// Whether a frame is in GPU memory.
pub(super) fn is_on_gpu(frame: &frame::Video) -> bool {
    // SAFETY: the frame is valid.
    unsafe { !(*frame.as_ptr()).hw_frames_ctx.is_null() }
}

/// Copies a frame from GPU memory, in a pixel format of the device.
pub(super) fn download(frame: &frame::Video) -> Result<frame::Video, Error> {
    let mut downloaded = frame::Video::empty();
    // SAFETY: both frames are valid. FFmpeg allocates memory for the empty one.
    check(unsafe { sys::av_hwframe_transfer_data(downloaded.as_mut_ptr(), frame.as_ptr(), 0) })?;
    Ok(downloaded)
}

/// Whether a library of the GPU driver can be loaded.
pub(super) fn has_driver_library(name: &str) -> bool {
    // SAFETY: the library belongs to the driver and has no initialisation routines.
    unsafe { libloading::Library::new(name) }.is_ok()
}

// This process.

/// Closes all files that this process inherited, but the standard ones. Call this first in a process, before it opens a
/// file.
pub fn close_inherited_files() {
    // SAFETY: no part of this process uses a file with such a number yet. An older kernel has no such call; then the
    // files stay open.
    unsafe { libc::close_range(3, u32::MAX, 0) };
}

/// Ends the process at once with this exit code. Call it when all output is written: it is faster than unloading the
/// models first.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: all output is written, so other threads may be stopped at any point.
    unsafe { libc::_exit(code.into()) }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Codec parameters of a video stream.
    pub fn parameters(id: codec::Id, format: ffmpeg::format::Pixel, (width, height): (c_int, c_int)) -> Parameters {
        let mut parameters = Parameters::new();
        // SAFETY: the parameters are owned.
        unsafe {
            let raw = parameters.as_mut_ptr();
            (*raw).codec_id = id.into();
            (*raw).format = sys::AVPixelFormat::from(format) as c_int;
            ((*raw).width, (*raw).height) = (width, height);
        }
        parameters
    }

    /// Sets the level of a stream.
    pub fn set_level(parameters: &mut Parameters, level: c_int) {
        // SAFETY: the parameters are owned.
        unsafe { (*parameters.as_mut_ptr()).level = level };
    }

    /// Copies a frame to the memory of a Vulkan device.
    pub fn upload(device: &HwContext, frame: &frame::Video) -> frame::Video {
        let mut on_gpu = frame::Video::empty();
        // SAFETY: the frames and their pool are created here, and all results are checked.
        unsafe {
            let mut pool = sys::av_hwframe_ctx_alloc(device.0.as_ptr());
            let frames = (*pool).data.cast::<sys::AVHWFramesContext>();
            (*frames).format = sys::AVPixelFormat::AV_PIX_FMT_VULKAN;
            (*frames).sw_format = frame.format().into();
            ((*frames).width, (*frames).height) = (frame.width() as c_int, frame.height() as c_int);
            check(sys::av_hwframe_ctx_init(pool)).unwrap();
            check(sys::av_hwframe_get_buffer(pool, on_gpu.as_mut_ptr(), 0)).unwrap();
            check(sys::av_hwframe_transfer_data(on_gpu.as_mut_ptr(), frame.as_ptr(), 0)).unwrap();
            sys::av_buffer_unref(&raw mut pool);
        }
        on_gpu
    }

    /// Crops a frame as a decoder does, by this many pixels at the left, top, right and bottom.
    pub fn crop(frame: &mut frame::Video, (left, top, right, bottom): (usize, usize, usize, usize)) {
        // SAFETY: the frame is valid.
        unsafe {
            let raw = frame.as_mut_ptr();
            ((*raw).crop_left, (*raw).crop_top) = (left, top);
            ((*raw).crop_right, (*raw).crop_bottom) = (right, bottom);
        }
        apply_cropping(frame).unwrap();
    }

    /// Adds a display matrix to a frame.
    pub fn add_display_matrix(frame: &mut frame::Video, matrix: &[u8]) {
        let side = frame.new_side_data(frame::side_data::Type::DisplayMatrix, matrix.len()).unwrap();
        // SAFETY: FFmpeg allocated `matrix.len()` bytes.
        unsafe { std::slice::from_raw_parts_mut((*side.as_ptr()).data, matrix.len()) }.copy_from_slice(matrix);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// A megabyte. Notes how many bytes each read has room for.
    struct Source(Mutex<Vec<usize>>);

    impl ReadAt for Source {
        fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, ReadError> {
            self.0.lock().push(buffer.len());
            let left = usize::try_from((1_u64 << 20).saturating_sub(at)).unwrap();
            let read = left.min(buffer.len());
            buffer[..read].fill(7);
            Ok(read)
        }

        fn size(&self) -> Option<u64> {
            Some(1 << 20)
        }
    }

    #[test]
    fn a_file_that_claims_a_large_box_costs_no_more_memory_than_the_buffer() {
        let source = Arc::new(Source(Mutex::default()));
        let bytes = SourceBytes::new(source.clone(), Box::new(|| false)).unwrap();
        let mut large = vec![0; 64 << 20];
        // SAFETY: the context lives as long as `bytes`, and `large` has this size.
        let read = unsafe { sys::avio_read(bytes.context.as_ptr(), large.as_mut_ptr(), 64 << 20) };
        assert_eq!(read, 1 << 20);
        assert!(large[..1 << 20].iter().all(|byte| *byte == 7));
        let reads = source.0.lock();
        assert!(reads.iter().all(|room| *room <= SOURCE_BUFFER), "{reads:?}");
    }
}
