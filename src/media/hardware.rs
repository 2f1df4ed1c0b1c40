//! Decodes on a GPU with FFmpeg's hwaccels.
//!
//! FFmpeg decodes on the device if the device supports the stream, and on the CPU otherwise. The supported standards
//! define the output of a decoder to the bit, so both give the same frames. Sampled frames are copied from GPU memory
//! and converted to the pixel format of the CPU decoders.

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

/// The maximum number of decoders per video on a GPU. A GPU has few decoding units, and each decoder takes GPU memory.
pub(super) const MAX_DECODERS: usize = 4;

/// A device is no longer used after this many failures in a row.
const MAX_FAILURES: u32 = 3;

/// NVIDIA's decoder library, which FFmpeg loads for the first video. Without it, FFmpeg decodes on the CPU and reports
/// no error.
const NVDEC: &str = "libnvcuvid.so.1";

/// The requested device is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "video.hwaccel = {requested:?}, but it cannot be used: {reason}; fix this, or set video.hwaccel to auto or none"
)]
pub struct NoHwaccel {
    requested: &'static str,
    reason: String,
}

/// A GPU, shared by all decoders of the process.
pub(super) struct HwDevice {
    context: *mut ffi::AVBufferRef,
    kind: ffi::AVHWDeviceType,
    name: &'static str,
    /// The number of failures in a row.
    failures: AtomicU32,
}

// SAFETY: FFmpeg counts references to the device atomically, and its decoders share it between threads.
unsafe impl Send for HwDevice {}
// SAFETY: as above. The device is not changed after it is opened.
unsafe impl Sync for HwDevice {}

impl Drop for HwDevice {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { ffi::av_buffer_unref(&raw mut self.context) };
    }
}

/// Returns the GPU for this setting, or `None` to decode on the CPU. Opens the GPU at the first call.
///
/// # Errors
/// The setting is `cuda` or `vaapi`, and the device is missing.
pub(super) fn device(setting: Hwaccel) -> Result<Option<&'static HwDevice>, NoHwaccel> {
    let found = match setting {
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

/// Returns FFmpeg's name of the GPU for this setting, or `None` to decode on the CPU.
///
/// # Errors
/// The setting is `cuda` or `vaapi`, and the device is missing.
pub fn hwaccel(setting: Hwaccel) -> Result<Option<&'static str>, NoHwaccel> {
    Ok(device(setting)?.map(|device| device.name))
}

fn cuda() -> Result<&'static HwDevice, NoHwaccel> {
    static CUDA: OnceLock<Result<HwDevice, NoHwaccel>> = OnceLock::new();
    let open = || {
        // SAFETY: the library belongs to the driver and has no initialisation routines.
        let nvdec = unsafe { libloading::Library::new(NVDEC) };
        nvdec.map_err(|_| NoHwaccel {
            requested: "cuda",
            reason: format!(
                "{NVDEC} of NVIDIA's driver is missing; a container needs NVIDIA_DRIVER_CAPABILITIES=video"
            ),
        })?;
        // Models run in the primary context too. A second context would take additional memory.
        HwDevice::open(ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA, "cuda", &[("primary_ctx", "1")])
    };
    CUDA.get_or_init(open).as_ref().map_err(Clone::clone)
}

fn vaapi() -> Result<&'static HwDevice, NoHwaccel> {
    static VAAPI: OnceLock<Result<HwDevice, NoHwaccel>> = OnceLock::new();
    let open = || HwDevice::open(ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI, "vaapi", &[]);
    VAAPI.get_or_init(open).as_ref().map_err(Clone::clone)
}

impl HwDevice {
    fn open(kind: ffi::AVHWDeviceType, name: &'static str, options: &[(&str, &str)]) -> Result<Self, NoHwaccel> {
        prepare();
        let options: Dictionary = options.iter().copied().collect();
        let mut context = null_mut();
        // SAFETY: ownership of the dictionary is taken back after the call. FFmpeg sets the pointer only on success.
        let code = unsafe {
            let raw = options.disown();
            let code = ffi::av_hwdevice_ctx_create(&raw mut context, kind, std::ptr::null(), raw, 0);
            drop(Dictionary::own(raw));
            code
        };
        if code < 0 {
            let reason = format!("FFmpeg cannot open the device: {}", ffmpeg::Error::from(code));
            return Err(NoHwaccel { requested: name, reason });
        }
        tracing::info!(hwaccel = name, "videos are decoded on a GPU");
        Ok(Self { context, kind, name, failures: AtomicU32::new(0) })
    }

    /// Returns the device, or `None` after too many failures. Then the CPU decodes until the process is restarted.
    fn usable(&self) -> Option<&Self> {
        (self.failures.load(Ordering::Relaxed) < MAX_FAILURES).then_some(self)
    }

    /// Records that a video was decoded.
    pub fn record_success(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Records that decoding failed for a video that the CPU could decode.
    pub fn record_failure(&self, error: ffmpeg::Error) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= MAX_FAILURES {
            tracing::error!(hwaccel = self.name, %error, "the GPU failed repeatedly; the CPU decodes until the process restarts");
        }
    }

    #[cfg(test)]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Replaces CUDA and VA-API in tests: its frames have the same layout, and Mesa implements Vulkan on the CPU.
    #[cfg(test)]
    pub fn vulkan() -> Self {
        Self::open(ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_VULKAN, "vulkan", &[])
            .expect("Vulkan on the CPU, which scripts/install-test-deps.sh installs")
    }

    /// A device that supports no stream.
    #[cfg(test)]
    pub fn unopened() -> Self {
        Self {
            context: null_mut(),
            kind: ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE,
            name: "none",
            failures: AtomicU32::new(0),
        }
    }

    /// Attaches the device to a decoder that is not open yet.
    pub fn attach_to(&self, decoder: &mut ffmpeg::codec::Context) {
        // SAFETY: the decoder owns the new reference. If memory is missing, the reference is null and the decoder has
        // no device.
        unsafe { (*decoder.as_mut_ptr()).hw_device_ctx = ffi::av_buffer_ref(self.context) };
    }

    /// Whether the device supports a stream and decodes it to the bit as the CPU does. Older standards do not define
    /// the output of a decoder to the bit, and GPUs store other pixel formats differently.
    pub fn supports(&self, stream: &Parameters) -> bool {
        // SAFETY: the parameters are valid.
        let (width, height, format) = unsafe {
            let stream = &*stream.as_ptr();
            (stream.width, stream.height, stream.format)
        };
        let is = |known: ffi::AVPixelFormat| format == known as std::ffi::c_int;
        let is_8_bit = is(ffi::AVPixelFormat::AV_PIX_FMT_YUV420P) || is(ffi::AVPixelFormat::AV_PIX_FMT_YUVJ420P);
        let is_10_bit = is(ffi::AVPixelFormat::AV_PIX_FMT_YUV420P10LE);
        let is_exact = match stream.id() {
            Id::H264 | Id::VP8 => is_8_bit,
            Id::HEVC | Id::VP9 => is_8_bit || is_10_bit,
            _ => false,
        };
        if !is_exact || width % 2 != 0 || height % 2 != 0 {
            return false;
        }
        let Some(codec) = ffmpeg::decoder::find(stream.id()) else { return false };
        // SAFETY: the codec and its list of configurations are constants of FFmpeg, and the list ends with null.
        let mut configs = (0..).map_while(|n| unsafe { ffi::avcodec_get_hw_config(codec.as_ptr(), n).as_ref() });
        let method = ffi::AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as std::ffi::c_int;
        configs.any(|config| config.device_type == self.kind && config.methods & method != 0)
    }
}

/// Whether an error is expected from any decoder, for damaged packets or if no frame is ready.
pub(super) fn is_input_error(error: ffmpeg::Error) -> bool {
    use ffmpeg::Error as E;
    matches!(error, E::InvalidData | E::Eof | E::Other { errno: EAGAIN })
}

/// Copies frames from GPU memory.
#[derive(Default)]
pub(super) struct FrameDownloader {
    scaler: Option<Context>,
}

impl FrameDownloader {
    /// Returns the frame as a CPU decoder outputs it. A frame in CPU memory is returned unchanged.
    pub fn download(&mut self, frame: frame::Video) -> Result<frame::Video, ffmpeg::Error> {
        if !is_on_gpu(&frame) {
            return Ok(frame);
        }
        let mut semi_planar = frame::Video::empty();
        // SAFETY: both frames are valid. FFmpeg allocates memory for the empty one, in a format of the device.
        check(unsafe { ffi::av_hwframe_transfer_data(semi_planar.as_mut_ptr(), frame.as_ptr(), 0) })?;
        // GPUs interleave the two chroma planes.
        let planar = match semi_planar.format() {
            Pixel::NV12 => Pixel::YUV420P,
            Pixel::P010LE => Pixel::YUV420P10LE,
            _ => return Err(ffmpeg::Error::PatchWelcome),
        };
        let (format, width, height) = (semi_planar.format(), semi_planar.width(), semi_planar.height());
        let is_for = |scaler: &Context| {
            let input = scaler.input();
            (input.format, input.width, input.height) == (format, width, height)
        };
        let scaler = match self.scaler.take().filter(is_for) {
            Some(kept) => kept,
            None => Context::get(format, width, height, planar, width, height, Flags::POINT)?,
        };
        let mut downloaded = picture::scale(self.scaler.insert(scaler), &semi_planar)?;
        copy_props(&mut downloaded, &frame)?;
        // The decoder crops the right and bottom edge. The left and top edge are cropped only here, in CPU memory.
        // SAFETY: the frame is valid.
        check(unsafe { ffi::av_frame_apply_cropping(downloaded.as_mut_ptr(), 0) })?;
        Ok(downloaded)
    }
}

pub(super) fn is_on_gpu(frame: &frame::Video) -> bool {
    // SAFETY: the frame is valid.
    unsafe { !(*frame.as_ptr()).hw_frames_ctx.is_null() }
}

/// Copies the time stamp, the colour space and further properties of a frame.
fn copy_props(to: &mut frame::Video, from: &frame::Video) -> Result<(), ffmpeg::Error> {
    // SAFETY: both frames are valid.
    check(unsafe { ffi::av_frame_copy_props(to.as_mut_ptr(), from.as_ptr()) })
}

fn check(code: std::ffi::c_int) -> Result<(), ffmpeg::Error> {
    if code < 0 { Err(code.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with varying values and a time stamp.
    fn test_frame(format: Pixel, width: u32, height: u32) -> frame::Video {
        let mut frame = frame::Video::new(format, width, height);
        let is_10_bit = format == Pixel::YUV420P10LE;
        for plane in 0..frame.planes() {
            for (n, bytes) in frame.data_mut(plane).chunks_exact_mut(2).enumerate() {
                let noise = (n * 7919 + plane * 104_729) as u16;
                bytes.copy_from_slice(&if is_10_bit { noise % 1024 } else { noise }.to_le_bytes());
            }
        }
        frame.set_pts(Some(4711));
        frame.set_color_space(ffmpeg::color::Space::BT709);
        frame.set_color_range(ffmpeg::color::Range::JPEG);
        frame
    }

    /// Copies a frame to GPU memory, in this pixel format. Also returns the source of the copy, which has to be kept
    /// until the frame is downloaded.
    fn upload(device: &HwDevice, picture: &frame::Video, stored: Pixel) -> (frame::Video, frame::Video) {
        let (width, height) = (picture.width(), picture.height());
        let mut semi_planar = frame::Video::empty();
        let mut scaler = Context::get(picture.format(), width, height, stored, width, height, Flags::POINT).unwrap();
        scaler.run(picture, &mut semi_planar).unwrap();
        let mut on_gpu = frame::Video::empty();
        // SAFETY: the frames and their pool are created here, and all results are checked.
        unsafe {
            let mut pool = ffi::av_hwframe_ctx_alloc(device.context);
            let frames = (*pool).data.cast::<ffi::AVHWFramesContext>();
            (*frames).format = ffi::AVPixelFormat::AV_PIX_FMT_VULKAN;
            (*frames).sw_format = stored.into();
            ((*frames).width, (*frames).height) = (width as i32, height as i32);
            check(ffi::av_hwframe_ctx_init(pool)).unwrap();
            check(ffi::av_hwframe_get_buffer(pool, on_gpu.as_mut_ptr(), 0)).unwrap();
            check(ffi::av_hwframe_transfer_data(on_gpu.as_mut_ptr(), semi_planar.as_ptr(), 0)).unwrap();
            ffi::av_buffer_unref(&raw mut pool);
        }
        copy_props(&mut on_gpu, picture).unwrap();
        (on_gpu, semi_planar)
    }

    /// The bytes of all planes, without the padding of lines.
    fn bytes(picture: &frame::Video) -> Vec<Vec<u8>> {
        let sample_size = if picture.format() == Pixel::YUV420P10LE { 2 } else { 1 };
        (0..picture.planes())
            .map(|plane| {
                let (width, height) = (picture.plane_width(plane) as usize, picture.plane_height(plane) as usize);
                let lines = picture.data(plane).chunks(picture.stride(plane)).take(height);
                lines.flat_map(|line| &line[..width * sample_size]).copied().collect()
            })
            .collect()
    }

    #[test]
    fn downloaded_frames_equal_those_of_the_cpu() {
        let device = HwDevice::vulkan();
        let mut downloader = FrameDownloader::default();
        for (stored, planar, (width, height)) in [
            (Pixel::NV12, Pixel::YUV420P, (640, 360)),
            (Pixel::P010LE, Pixel::YUV420P10LE, (640, 360)),
            (Pixel::NV12, Pixel::YUV420P, (334, 190)),
        ] {
            let given = test_frame(planar, width, height);
            let (on_gpu, _from) = upload(&device, &given, stored);
            assert!(is_on_gpu(&on_gpu) && !is_on_gpu(&given));
            let downloaded = downloader.download(on_gpu).unwrap();
            assert!(!is_on_gpu(&downloaded));
            assert_eq!((downloaded.format(), downloaded.width(), downloaded.height()), (planar, width, height));
            assert!(bytes(&downloaded) == bytes(&given), "{stored:?} of {width}x{height}");
            assert_eq!(downloaded.pts(), Some(4711));
            assert_eq!(
                (downloaded.color_space(), downloaded.color_range()),
                (given.color_space(), given.color_range())
            );
        }
    }

    #[test]
    fn downloaded_frames_are_cropped_as_on_the_cpu() {
        let device = HwDevice::vulkan();
        for (left, top, right, bottom) in [(6, 4, 10, 8), (64, 2, 0, 6), (0, 0, 2, 2)] {
            let crop = |picture: &mut frame::Video| {
                // SAFETY: the frame is valid. A decoder does the same.
                unsafe {
                    let picture = picture.as_mut_ptr();
                    ((*picture).crop_left, (*picture).crop_top) = (left, top);
                    ((*picture).crop_right, (*picture).crop_bottom) = (right, bottom);
                    check(ffi::av_frame_apply_cropping(picture, 0)).unwrap();
                }
            };
            let mut given = test_frame(Pixel::YUV420P, 640, 360);
            let (mut on_gpu, _from) = upload(&device, &given, Pixel::NV12);
            crop(&mut on_gpu);
            crop(&mut given);
            let downloaded = FrameDownloader::default().download(on_gpu).unwrap();
            assert_eq!((downloaded.width(), downloaded.height()), (given.width(), given.height()), "{left}, {top}");
            assert!(bytes(&downloaded) == bytes(&given), "{left}, {top}, {right}, {bottom}");
        }
    }

    #[test]
    fn frames_in_cpu_memory_are_not_copied() {
        let given = test_frame(Pixel::YUV420P, 64, 64);
        let address = given.data(0).as_ptr();
        assert_eq!(FrameDownloader::default().download(given).unwrap().data(0).as_ptr(), address);
    }

    #[test]
    fn only_streams_with_bit_exact_decoding_are_supported() {
        let (mut cuda, none) = (HwDevice::unopened(), HwDevice::unopened());
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
        for (id, format, width, is_supported) in [
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
            assert_eq!(cuda.supports(&stream), is_supported, "{id:?} {format:?} {width}");
            assert!(!none.supports(&stream));
        }
    }

    #[test]
    fn device_is_no_longer_used_after_repeated_failures() {
        let device = HwDevice::unopened();
        for _ in 1..MAX_FAILURES {
            device.record_failure(ffmpeg::Error::External);
        }
        device.record_success();
        for _ in 1..MAX_FAILURES {
            device.record_failure(ffmpeg::Error::External);
        }
        assert!(device.usable().is_some());
        device.record_failure(ffmpeg::Error::External);
        assert!(device.usable().is_none());
    }

    #[test]
    fn missing_device_is_an_error_only_if_it_is_requested_by_name() {
        assert_eq!(hwaccel(Hwaccel::None), Ok(None));
        let found = hwaccel(Hwaccel::Auto).unwrap();
        for (setting, name) in [(Hwaccel::Cuda, "cuda"), (Hwaccel::Vaapi, "vaapi")] {
            match hwaccel(setting) {
                Ok(device) => assert!(device == Some(name) && found.is_some()),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("set video.hwaccel to auto or none") && !error.contains(": ;"), "{error}");
                }
            }
        }
    }
}
