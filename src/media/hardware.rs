//! Decoding on a GPU, through FFmpeg's hwaccels.
//!
//! A decoder that has a device decodes on it what the device can, and the rest on the CPU, as FFmpeg finds out from the
//! stream. Standards say what a decoder gives to the bit, so it is the same either way: pictures that are looked at are copied
//! out of the GPU's memory and laid out as the decoders of the CPU lay them out.

use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::{Id, Parameters};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::util::error::EAGAIN;
use ffmpeg_next::{Dictionary, ffi, frame};

use super::{picture, prepare};
use crate::config::Hwaccel;

/// Decoders of one video that share a GPU, each with surfaces in its memory: what decodes there is there a few times only.
pub(super) const DECODERS: usize = 4;

/// After so many failures without a success between, no further video is given to a device.
const FAILURES: u32 = 3;

/// NVIDIA's decoder, which FFmpeg loads when a video comes; without it, all would be decoded on the CPU without a word.
const NVDEC: &str = "libnvcuvid.so.1";

/// A device that was asked for and is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("video.hwaccel = {asked:?}, but it cannot be used: {reason}; mend that, or set video.hwaccel to auto or none")]
pub struct NoHwaccel {
    asked: &'static str,
    reason: String,
}

/// A device that decodes, shared by all decoders of the process.
pub(super) struct Device {
    context: *mut ffi::AVBufferRef,
    kind: ffi::AVHWDeviceType,
    name: &'static str,
    /// In a row.
    failures: AtomicU32,
}

// SAFETY: the device is counted by references, atomically, and FFmpeg's decoders share it between their own threads.
unsafe impl Send for Device {}
// SAFETY: as above; nothing here changes it once it is open.
unsafe impl Sync for Device {}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { ffi::av_buffer_unref(&raw mut self.context) };
    }
}

/// What videos are decoded on: opened when it is first asked for. None: the CPU alone.
///
/// # Errors
/// `cuda` or `vaapi` was asked for by name and is not there.
pub(super) fn device(asked: Hwaccel) -> Result<Option<&'static Device>, NoHwaccel> {
    let found = match asked {
        Hwaccel::None => return Ok(None),
        Hwaccel::Cuda => cuda()?,
        Hwaccel::Vaapi => vaapi()?,
        Hwaccel::Auto => match cuda().or_else(|_| vaapi()) {
            Ok(found) => found,
            Err(_) => return Ok(None),
        },
    };
    Ok(found.usable())
}

/// The name of what videos are decoded on beside the CPU, as FFmpeg knows it.
///
/// # Errors
/// `cuda` or `vaapi` was asked for by name and is not there.
pub fn hwaccel(asked: Hwaccel) -> Result<Option<&'static str>, NoHwaccel> {
    Ok(device(asked)?.map(|device| device.name))
}

fn cuda() -> Result<&'static Device, NoHwaccel> {
    static CUDA: OnceLock<Result<Device, NoHwaccel>> = OnceLock::new();
    let open = || {
        // SAFETY: the library is the driver's own, and has nothing to run at start.
        let nvdec = unsafe { libloading::Library::new(NVDEC) };
        nvdec.map_err(|_| NoHwaccel {
            asked: "cuda",
            reason: format!(
                "{NVDEC} is not there, which comes with NVIDIA's driver; a container needs NVIDIA_DRIVER_CAPABILITIES=video"
            ),
        })?;
        // Models run in the primary context as well; a second one would take memory for itself.
        Device::open(ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA, "cuda", &[("primary_ctx", "1")])
    };
    CUDA.get_or_init(open).as_ref().map_err(Clone::clone)
}

fn vaapi() -> Result<&'static Device, NoHwaccel> {
    static VAAPI: OnceLock<Result<Device, NoHwaccel>> = OnceLock::new();
    let open = || Device::open(ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI, "vaapi", &[]);
    VAAPI.get_or_init(open).as_ref().map_err(Clone::clone)
}

impl Device {
    fn open(kind: ffi::AVHWDeviceType, name: &'static str, options: &[(&str, &str)]) -> Result<Self, NoHwaccel> {
        prepare();
        let options: Dictionary = options.iter().copied().collect();
        let mut context = null_mut();
        // SAFETY: the dictionary is taken out and back; FFmpeg sets the pointer where it opens a device, and only there.
        let code = unsafe {
            let raw = options.disown();
            let code = ffi::av_hwdevice_ctx_create(&raw mut context, kind, std::ptr::null(), raw, 0);
            drop(Dictionary::own(raw));
            code
        };
        if code < 0 {
            let reason = format!("FFmpeg opens no such device: {}", ffmpeg::Error::from(code));
            return Err(NoHwaccel { asked: name, reason });
        }
        tracing::info!(hwaccel = name, "videos are decoded on");
        Ok(Self { context, kind, name, failures: AtomicU32::new(0) })
    }

    /// Itself, until it has failed too often: then the CPU decodes until the process starts anew.
    fn usable(&self) -> Option<&Self> {
        (self.failures.load(Ordering::Relaxed) < FAILURES).then_some(self)
    }

    /// It has decoded a video.
    pub fn worked(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// It has failed to decode a sound video.
    pub fn failed(&self, error: ffmpeg::Error) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= FAILURES {
            tracing::error!(hwaccel = self.name, %error, "a GPU fails to decode; the CPU decodes from now on");
        }
    }

    #[cfg(test)]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Stands in for CUDA and VA-API: its frames are as theirs, and Mesa has it on the CPU.
    #[cfg(test)]
    pub fn vulkan() -> Self {
        Self::open(ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_VULKAN, "vulkan", &[])
            .expect("Vulkan on the CPU: scripts/install-test-deps.sh brings it")
    }

    /// One that nothing can be decoded on.
    #[cfg(test)]
    pub fn unopened() -> Self {
        Self {
            context: null_mut(),
            kind: ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE,
            name: "none",
            failures: AtomicU32::new(0),
        }
    }

    /// Gives the device to a decoder that is not open yet.
    pub fn give(&self, decoder: &mut ffmpeg::codec::Context) {
        // SAFETY: the decoder is borrowed, and frees the reference when it is freed. Without memory for a reference, it has
        // no device.
        unsafe { (*decoder.as_mut_ptr()).hw_device_ctx = ffi::av_buffer_ref(self.context) };
    }

    /// Whether it decodes such streams, to the bit as the CPU does. Older standards leave the last bits to the decoder, and GPUs
    /// store other formats in other ways.
    pub fn decodes(&self, stream: &Parameters) -> bool {
        // SAFETY: the parameters are whole.
        let (width, height, format) = unsafe {
            let stream = &*stream.as_ptr();
            (stream.width, stream.height, stream.format)
        };
        let is = |known: ffi::AVPixelFormat| format == known as std::ffi::c_int;
        let is_plain = is(ffi::AVPixelFormat::AV_PIX_FMT_YUV420P) || is(ffi::AVPixelFormat::AV_PIX_FMT_YUVJ420P);
        let is_deep = is(ffi::AVPixelFormat::AV_PIX_FMT_YUV420P10LE);
        let is_exact = match stream.id() {
            Id::H264 | Id::VP8 => is_plain,
            Id::HEVC | Id::VP9 => is_plain || is_deep,
            _ => false,
        };
        if !is_exact || width % 2 != 0 || height % 2 != 0 {
            return false;
        }
        let Some(codec) = ffmpeg::decoder::find(stream.id()) else { return false };
        // SAFETY: the codec and its list are FFmpeg's constants; the list ends with null.
        let mut ways = (0..).map_while(|n| unsafe { ffi::avcodec_get_hw_config(codec.as_ptr(), n).as_ref() });
        let takes_devices = ffi::AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as std::ffi::c_int;
        ways.any(|way| way.device_type == self.kind && way.methods & takes_devices != 0)
    }
}

/// Whether an error is what damaged packets, or none, bring about with any decoder.
pub(super) fn is_videos_fault(error: ffmpeg::Error) -> bool {
    use ffmpeg::Error as E;
    matches!(error, E::InvalidData | E::Eof | E::Other { errno: EAGAIN })
}

/// Copies pictures out of a GPU's memory.
#[derive(Default)]
pub(super) struct Fetcher {
    scaler: Option<Context>,
}

impl Fetcher {
    /// The picture as a decoder of the CPU gives it; any other than a GPU's stays as it is.
    pub fn fetch(&mut self, frame: frame::Video) -> Result<frame::Video, ffmpeg::Error> {
        if !is_on_gpu(&frame) {
            return Ok(frame);
        }
        let mut side_by_side = frame::Video::empty();
        // SAFETY: both are whole frames. An empty one is given room for the picture in a format that the device names.
        check(unsafe { ffi::av_hwframe_transfer_data(side_by_side.as_mut_ptr(), frame.as_ptr(), 0) })?;
        // GPUs store the two colours of a pixel side by side.
        let planar = match side_by_side.format() {
            Pixel::NV12 => Pixel::YUV420P,
            Pixel::P010LE => Pixel::YUV420P10LE,
            _ => return Err(ffmpeg::Error::PatchWelcome),
        };
        let (from, width, height) = (side_by_side.format(), side_by_side.width(), side_by_side.height());
        let is_for = |scaler: &Context| {
            let input = scaler.input();
            (input.format, input.width, input.height) == (from, width, height)
        };
        let scaler = match self.scaler.take().filter(is_for) {
            Some(kept) => kept,
            None => Context::get(from, width, height, planar, width, height, Flags::POINT)?,
        };
        let mut fetched = picture::scale(self.scaler.insert(scaler), &side_by_side)?;
        describe(&mut fetched, &frame)?;
        // What stands at the right and at the bottom is cut off by now; the rest only where the computer has the picture.
        // SAFETY: the frame is whole.
        check(unsafe { ffi::av_frame_apply_cropping(fetched.as_mut_ptr(), 0) })?;
        Ok(fetched)
    }
}

pub(super) fn is_on_gpu(frame: &frame::Video) -> bool {
    // SAFETY: the frame is whole.
    unsafe { !(*frame.as_ptr()).hw_frames_ctx.is_null() }
}

/// Time stamp, colours, and what else is said of a picture.
fn describe(copy: &mut frame::Video, of: &frame::Video) -> Result<(), ffmpeg::Error> {
    // SAFETY: both are whole frames.
    check(unsafe { ffi::av_frame_copy_props(copy.as_mut_ptr(), of.as_ptr()) })
}

fn check(code: std::ffi::c_int) -> Result<(), ffmpeg::Error> {
    if code < 0 { Err(code.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with all kinds of values, stamped.
    fn picture(format: Pixel, width: u32, height: u32) -> frame::Video {
        let mut picture = frame::Video::new(format, width, height);
        let is_deep = format == Pixel::YUV420P10LE;
        for plane in 0..picture.planes() {
            for (n, bytes) in picture.data_mut(plane).chunks_exact_mut(2).enumerate() {
                let noise = (n * 7919 + plane * 104_729) as u16;
                bytes.copy_from_slice(&if is_deep { noise % 1024 } else { noise }.to_le_bytes());
            }
        }
        picture.set_pts(Some(4711));
        picture.set_color_space(ffmpeg::color::Space::BT709);
        picture.set_color_range(ffmpeg::color::Range::JPEG);
        picture
    }

    /// The same picture in a GPU's memory, stored in this format; and what it was copied from, which must stay until it has come
    /// out again.
    fn upload(device: &Device, picture: &frame::Video, stored: Pixel) -> (frame::Video, frame::Video) {
        let (width, height) = (picture.width(), picture.height());
        let mut side_by_side = frame::Video::empty();
        let mut scaler = Context::get(picture.format(), width, height, stored, width, height, Flags::POINT).unwrap();
        scaler.run(picture, &mut side_by_side).unwrap();
        let mut on_gpu = frame::Video::empty();
        // SAFETY: the frames and their pool are made here and checked.
        unsafe {
            let mut pool = ffi::av_hwframe_ctx_alloc(device.context);
            let frames = (*pool).data.cast::<ffi::AVHWFramesContext>();
            (*frames).format = ffi::AVPixelFormat::AV_PIX_FMT_VULKAN;
            (*frames).sw_format = stored.into();
            ((*frames).width, (*frames).height) = (width as i32, height as i32);
            check(ffi::av_hwframe_ctx_init(pool)).unwrap();
            check(ffi::av_hwframe_get_buffer(pool, on_gpu.as_mut_ptr(), 0)).unwrap();
            check(ffi::av_hwframe_transfer_data(on_gpu.as_mut_ptr(), side_by_side.as_ptr(), 0)).unwrap();
            ffi::av_buffer_unref(&raw mut pool);
        }
        describe(&mut on_gpu, picture).unwrap();
        (on_gpu, side_by_side)
    }

    /// The bytes of all planes, without what fills up their lines.
    fn bytes(picture: &frame::Video) -> Vec<Vec<u8>> {
        let wide = if picture.format() == Pixel::YUV420P10LE { 2 } else { 1 };
        (0..picture.planes())
            .map(|plane| {
                let (width, height) = (picture.plane_width(plane) as usize, picture.plane_height(plane) as usize);
                let lines = picture.data(plane).chunks(picture.stride(plane)).take(height);
                lines.flat_map(|line| &line[..width * wide]).copied().collect()
            })
            .collect()
    }

    #[test]
    fn pictures_come_out_of_a_gpu_as_the_cpu_would_have_given_them() {
        let device = Device::vulkan();
        let mut fetcher = Fetcher::default();
        for (stored, planar, (width, height)) in [
            (Pixel::NV12, Pixel::YUV420P, (640, 360)),
            (Pixel::P010LE, Pixel::YUV420P10LE, (640, 360)),
            (Pixel::NV12, Pixel::YUV420P, (334, 190)),
        ] {
            let given = picture(planar, width, height);
            let (on_gpu, _from) = upload(&device, &given, stored);
            assert!(is_on_gpu(&on_gpu) && !is_on_gpu(&given));
            let fetched = fetcher.fetch(on_gpu).unwrap();
            assert!(!is_on_gpu(&fetched));
            assert_eq!((fetched.format(), fetched.width(), fetched.height()), (planar, width, height));
            assert!(bytes(&fetched) == bytes(&given), "{stored:?} of {width}x{height}");
            assert_eq!(fetched.pts(), Some(4711));
            assert_eq!((fetched.color_space(), fetched.color_range()), (given.color_space(), given.color_range()));
        }
    }

    #[test]
    fn what_is_cut_off_a_picture_is_what_the_cpu_cuts_off() {
        let device = Device::vulkan();
        for (left, top, right, bottom) in [(6, 4, 10, 8), (64, 2, 0, 6), (0, 0, 2, 2)] {
            let crop = |picture: &mut frame::Video| {
                // SAFETY: the frame is whole. A decoder does the same.
                unsafe {
                    let picture = picture.as_mut_ptr();
                    ((*picture).crop_left, (*picture).crop_top) = (left, top);
                    ((*picture).crop_right, (*picture).crop_bottom) = (right, bottom);
                    check(ffi::av_frame_apply_cropping(picture, 0)).unwrap();
                }
            };
            let mut given = picture(Pixel::YUV420P, 640, 360);
            let (mut on_gpu, _from) = upload(&device, &given, Pixel::NV12);
            crop(&mut on_gpu);
            crop(&mut given);
            let fetched = Fetcher::default().fetch(on_gpu).unwrap();
            assert_eq!((fetched.width(), fetched.height()), (given.width(), given.height()), "{left}, {top}");
            assert!(bytes(&fetched) == bytes(&given), "{left}, {top}, {right}, {bottom}");
        }
    }

    #[test]
    fn a_picture_of_the_cpu_stays_where_it_is() {
        let given = picture(Pixel::YUV420P, 64, 64);
        let place = given.data(0).as_ptr();
        assert_eq!(Fetcher::default().fetch(given).unwrap().data(0).as_ptr(), place);
    }

    #[test]
    fn a_gpu_is_given_what_it_decodes_to_the_bit() {
        let (mut cuda, none) = (Device::unopened(), Device::unopened());
        cuda.kind = ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA;
        let stream = |id: Id, format: Pixel, width: i32| {
            let mut parameters = Parameters::new();
            // SAFETY: the parameters are ours.
            unsafe {
                let stream = parameters.as_mut_ptr();
                (*stream).codec_id = id.into();
                (*stream).format = ffi::AVPixelFormat::from(format) as i32;
                ((*stream).width, (*stream).height) = (width, 480);
            }
            parameters
        };
        let (plain, deep) = (Pixel::YUV420P, Pixel::YUV420P10LE);
        for (id, format, width, given) in [
            (Id::H264, plain, 640, true),
            (Id::H264, Pixel::YUVJ420P, 640, true),
            (Id::H264, deep, 640, false),
            (Id::H264, Pixel::YUV444P, 640, false),
            (Id::HEVC, plain, 640, true),
            (Id::HEVC, deep, 640, true),
            (Id::HEVC, Pixel::YUV420P12LE, 640, false),
            (Id::VP8, plain, 640, true),
            (Id::VP9, deep, 640, true),
            (Id::VP9, plain, 641, false),
            (Id::MJPEG, plain, 640, false),
            (Id::MPEG4, plain, 640, false),
            (Id::MPEG2VIDEO, plain, 640, false),
            (Id::AV1, plain, 640, false),
        ] {
            let stream = stream(id, format, width);
            assert_eq!(cuda.decodes(&stream), given, "{id:?} {format:?} {width}");
            assert!(!none.decodes(&stream));
        }
    }

    #[test]
    fn a_gpu_that_fails_again_and_again_is_left_alone() {
        let device = Device::unopened();
        for _ in 1..FAILURES {
            device.failed(ffmpeg::Error::External);
        }
        device.worked();
        for _ in 1..FAILURES {
            device.failed(ffmpeg::Error::External);
        }
        assert!(device.usable().is_some());
        device.failed(ffmpeg::Error::External);
        assert!(device.usable().is_none());
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_only_where_it_is_asked_for_by_name() {
        assert_eq!(hwaccel(Hwaccel::None), Ok(None));
        let found = hwaccel(Hwaccel::Auto).unwrap();
        for (asked, name) in [(Hwaccel::Cuda, "cuda"), (Hwaccel::Vaapi, "vaapi")] {
            match hwaccel(asked) {
                Ok(taken) => assert!(taken == Some(name) && found.is_some()),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("set video.hwaccel to auto or none") && !error.contains(": ;"), "{error}");
                }
            }
        }
    }
}
