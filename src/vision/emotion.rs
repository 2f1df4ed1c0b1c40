//! Classifies the emotion that a face shows, with any network that the settings describe.

use std::borrow::Borrow;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Size, Vec3b};
use opencv::imgproc::{COLOR_BGR2GRAY, cvt_color_def};

use super::crop::{Crop, Framing, cut};
use super::{VisionError, scale};
use crate::analysis::{Emotion, Face, Probabilities};
use crate::config::{ClassifierOutput, Colour, EmotionModel, Layout};
use crate::engine::{Engine, EngineError, Model};

pub(super) struct Classifier {
    model: Model,
    described: EmotionModel,
    /// The outputs that have a label, in their order.
    classes: Vec<usize>,
    /// The outputs of the seven emotions, in the order of [`Emotion::ALL`].
    seven: [usize; 7],
    /// Added to the logit of each output to remove the class prior of the training.
    logit_adjustment: Vec<f32>,
}

/// Metadata key of a model file for the frequency of each class in its training: one number for each output, separated
/// by commas.
const PRIOR: &str = "prior";

impl Classifier {
    /// Loads the model and checks that it matches its description in the settings.
    pub fn load(engine: &Engine, folder: &Path, described: &EmotionModel) -> Result<Self, VisionError> {
        let model = engine.load(&described.name, &folder.join(&described.file))?;
        check_input(&model.input().shape, described)?;
        let labels = &described.labels;
        let mut seven = [0; 7];
        for emotion in Emotion::ALL {
            let output = labels.iter().position(|label| label == emotion.label());
            seven[emotion.index()] = output.ok_or_else(|| VisionError::Setting {
                key: "vision.emotion.labels",
                value: labels.join(","),
                reason: format!("the labels must include {emotion} once"),
            })?;
        }
        let classifier = Self {
            classes: labels.iter().enumerate().filter(|(_, label)| *label != "-").map(|(output, _)| output).collect(),
            seven,
            logit_adjustment: logit_adjustment(&model, described)?,
            model,
            described: described.clone(),
        };
        // A first run checks the sizes that the file does not fix.
        let blank = Crop { row: vec![0.0; described.channels() * (described.width * described.height) as usize] };
        classifier.classify(&[blank])?;
        Ok(classifier)
    }

    pub const fn model(&self) -> &Model {
        &self.model
    }

    pub fn crop(&self, frame: &Mat, face: &Face, framing: &Framing) -> Result<Crop, VisionError> {
        let picture = cut(frame, &framing.square(face), self.described.width, self.described.height)?;
        Ok(Crop { row: row(&picture, &self.described)? })
    }

    /// Returns the labels of the classes, in the order of [`Classifier::shares`].
    pub fn classes(&self) -> Vec<&str> {
        self.classes.iter().map(|&output| self.described.labels[output].as_str()).collect()
    }

    /// Prepares a whole picture as input for the classifier.
    pub fn whole(&self, picture: &Mat) -> Result<Crop, VisionError> {
        let size = Size::new(self.described.width as i32, self.described.height as i32);
        if picture.size()? == size {
            return Ok(Crop { row: row(picture, &self.described)? });
        }
        Ok(Crop { row: row(&scale::whole(picture, size)?, &self.described)? })
    }

    /// Returns the probabilities of the seven emotions for each crop.
    pub fn classify(&self, crops: &[impl Borrow<Crop>]) -> Result<Vec<Probabilities>, VisionError> {
        let read = self.read(crops, &self.seven)?;
        Ok(read.into_iter().map(|shares| Probabilities(std::array::from_fn(|emotion| shares[emotion]))).collect())
    }

    /// Returns the probability of each class for each crop, including classes that are none of the seven emotions.
    pub fn shares(&self, crops: &[Crop]) -> Result<Vec<Vec<f32>>, VisionError> {
        self.read(crops, &self.classes)
    }

    /// Returns the probabilities of the `kept` outputs for each crop.
    fn read(&self, crops: &[impl Borrow<Crop>], kept: &[usize]) -> Result<Vec<Vec<f32>>, VisionError> {
        if crops.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |reason: String| EngineError::Run { model: self.model.name().to_owned(), reason };
        let values: Vec<f32> = crops.iter().flat_map(|crop| crop.borrow().row.iter().copied()).collect();
        let rows = ArrayD::from_shape_vec(IxDyn(&shape(crops.len(), &self.described)), values)
            .map_err(|error| failed(error.to_string()))?;
        let outputs = self.model.run(rows)?;
        let output = outputs.first().ok_or_else(|| failed("the model has no output".to_owned()))?;
        let each = output.len() / crops.len();
        if each != self.described.labels.len() {
            return Err(VisionError::Setting {
                key: "vision.emotion.labels",
                value: self.described.labels.join(","),
                reason: format!("the model {} has {each} outputs", self.model.name()),
            });
        }
        let values: Vec<f32> = output.iter().copied().collect();
        let read = |values| probabilities(values, &self.logit_adjustment, kept, self.described.output);
        let all = values.chunks_exact(each).map(read).collect::<Option<Vec<_>>>();
        Ok(all.ok_or_else(|| failed("its output is not finite".to_owned()))?)
    }
}

/// Returns the logit adjustment that removes the share `vision.emotion.prior` of the training's class prior. It is 0
/// for a model file that gives no prior.
fn logit_adjustment(model: &Model, described: &EmotionModel) -> Result<Vec<f32>, VisionError> {
    let Some(text) = model.metadata(PRIOR) else {
        if described.prior > 0.0 {
            tracing::debug!(model = model.name(), "vision.emotion.prior has no effect: the model file gives no prior");
        }
        return Ok(vec![0.0; described.labels.len()]);
    };
    let (numbers, outputs) = (text.split(',').count(), described.labels.len());
    if numbers != outputs {
        return Err(VisionError::Setting {
            key: "vision.emotion.labels",
            value: described.labels.join(","),
            reason: format!("the model {} gives the prior of {numbers} outputs", model.name()),
        });
    }
    let refused = || EngineError::ModelRefused {
        name: model.name().to_owned(),
        reason: format!("its metadata {PRIOR:?} must be numbers above 0, but is {text:?}"),
    };
    Ok(parse_prior(text, outputs, described.prior).ok_or_else(refused)?)
}

/// Returns `-strength x ln(prior)` for each number in a text. `None` unless it holds `outputs` numbers, all above 0.
fn parse_prior(text: &str, outputs: usize, strength: f32) -> Option<Vec<f32>> {
    let numbers = text.split(',').map(|number| number.trim().parse::<f32>());
    let prior: Vec<f32> = numbers.collect::<Result<_, _>>().ok()?;
    let usable = prior.len() == outputs && prior.iter().all(|&share| share > 0.0 && share.is_finite());
    usable.then(|| prior.iter().map(|share| -strength * share.ln()).collect())
}

/// Returns the shape of the input for `count` faces.
fn shape(count: usize, described: &EmotionModel) -> [usize; 4] {
    let (channels, width, height) = (described.channels(), described.width as usize, described.height as usize);
    match described.layout {
        Layout::Nchw => [count, channels, height, width],
        Layout::Nhwc => [count, height, width, channels],
    }
}

/// Returns an error if the model's input contradicts the description.
fn check_input(input: &[Option<usize>], described: &EmotionModel) -> Result<(), VisionError> {
    let refuse = |key, value: String, reason| Err(VisionError::Setting { key, value, reason });
    let &[_, a, b, c] = input else {
        let reason = format!("the model's input has {} dimensions, but a batch of pictures has 4", input.len());
        return refuse("vision.emotion.file", described.file.display().to_string(), reason);
    };
    let (layout, channels, height, width) = match described.layout {
        Layout::Nchw => ("nchw", a, b, c),
        Layout::Nhwc => ("nhwc", c, a, b),
    };
    if let Some(channels) = channels.filter(|channels| *channels != described.channels()) {
        // If the channels match the other layout, the setting for the layout is more likely wrong than the one for
        // colour.
        let other = if described.layout == Layout::Nchw { c } else { a };
        if other == Some(described.channels()) {
            return refuse("vision.emotion.layout", layout.to_owned(), format!("the model's input is {input:?}"));
        }
        let colour = format!("{:?}", described.colour).to_lowercase();
        return refuse("vision.emotion.colour", colour, format!("the model takes {channels} channels"));
    }
    for (key, given, taken) in
        [("vision.emotion.width", described.width, width), ("vision.emotion.height", described.height, height)]
    {
        if let Some(taken) = taken.filter(|taken| *taken != given as usize) {
            return refuse(key, given.to_string(), format!("the model takes {taken}"));
        }
    }
    Ok(())
}

/// Converts a BGR picture of the classifier's size to one row of the input.
fn row(picture: &Mat, described: &EmotionModel) -> Result<Vec<f32>, VisionError> {
    // (pixel / 255 - mean) / std
    let of = |values: &[f32], channel: usize| values.get(channel).or(values.first()).copied().unwrap_or(0.0);
    let scale = |channel: usize, value: u8| {
        (f32::from(value) / 255.0 - of(&described.mean, channel)) / of(&described.std, channel)
    };
    let channels = described.channels();
    let plane = picture.total();
    let mut row = vec![0.0; plane * channels];
    let mut put = |pixel: usize, channel: usize, value: u8| {
        let at = match described.layout {
            Layout::Nchw => channel * plane + pixel,
            Layout::Nhwc => pixel * channels + channel,
        };
        row[at] = scale(channel, value);
    };
    if described.colour == Colour::Gray {
        let mut gray = Mat::default();
        cvt_color_def(picture, &mut gray, COLOR_BGR2GRAY)?;
        gray.data_typed::<u8>()?.iter().enumerate().for_each(|(pixel, value)| put(pixel, 0, *value));
    } else {
        let order = if described.colour == Colour::Bgr { [0, 1, 2] } else { [2, 1, 0] };
        for (pixel, bgr) in picture.data_typed::<Vec3b>()?.iter().enumerate() {
            for (channel, from) in order.into_iter().enumerate() {
                put(pixel, channel, bgr[from]);
            }
        }
    }
    Ok(row)
}

/// Returns the probabilities of the `kept` outputs of one face, in the order of `kept`. The other outputs are dropped,
/// the adjustment is added to the logits, and the result is normalised to sum to 1. `None` if an output is not finite.
fn probabilities(values: &[f32], adjustment: &[f32], kept: &[usize], output: ClassifierOutput) -> Option<Vec<f32>> {
    if values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let adjusted = |output: &usize| values[*output] + adjustment[*output];
    let top = kept.iter().map(adjusted).fold(f32::MIN, f32::max);
    let weight = |at: &usize| match output {
        // Dropping outputs before the softmax equals normalising again after it, and cannot divide 0 by 0.
        ClassifierOutput::Logits => (adjusted(at) - top).exp(),
        ClassifierOutput::Probabilities => values[*at].max(0.0) * adjustment[*at].exp(),
    };
    let weights: Vec<f32> = kept.iter().map(weight).collect();
    let sum: f32 = weights.iter().sum();
    // If dropped outputs have all the weight, the kept ones are equally likely.
    let even = 1.0 / kept.len() as f32;
    Some(weights.into_iter().map(|weight| if sum > 0.0 { weight / sum } else { even }).collect())
}

#[cfg(test)]
mod tests {
    use opencv::core::MatTraitManual;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Settings;

    /// Two pixels wide, one high: pure blue, then B 10, G 20, R 30.
    fn picture() -> Mat {
        let mut picture = Mat::new_rows_cols_with_default(1, 2, opencv::core::CV_8UC3, 0.into()).unwrap();
        picture.data_typed_mut::<Vec3b>().unwrap().copy_from_slice(&[[255, 0, 0].into(), [10, 20, 30].into()]);
        picture
    }

    fn described(colour: Colour, layout: Layout, mean: &[f32], std: &[f32]) -> EmotionModel {
        let mut model = Settings::defaults().unwrap().vision.emotion;
        (model.colour, model.layout, model.width, model.height) = (colour, layout, 2, 1);
        (model.mean, model.std) = (mean.to_vec(), std.to_vec());
        model
    }

    #[test]
    fn values_are_ordered_by_layout_and_colour() {
        let plain = |colour, layout| -> Vec<f32> {
            let row = row(&picture(), &described(colour, layout, &[0.0], &[1.0])).unwrap();
            row.iter().map(|value| (value * 255.0).round()).collect()
        };
        assert_eq!(plain(Colour::Bgr, Layout::Nhwc), [255.0, 0.0, 0.0, 10.0, 20.0, 30.0]);
        assert_eq!(plain(Colour::Rgb, Layout::Nhwc), [0.0, 0.0, 255.0, 30.0, 20.0, 10.0]);
        assert_eq!(plain(Colour::Bgr, Layout::Nchw), [255.0, 10.0, 0.0, 20.0, 0.0, 30.0]);
        assert_eq!(plain(Colour::Rgb, Layout::Nchw), [0.0, 30.0, 0.0, 20.0, 255.0, 10.0]);
        // Grey is 0.114 B + 0.587 G + 0.299 R: 29.07, and 1.14 + 11.74 + 8.97 = 21.85.
        assert_eq!(plain(Colour::Gray, Layout::Nchw), [29.0, 22.0]);
        assert_eq!(plain(Colour::Gray, Layout::Nhwc), [29.0, 22.0]);
    }

    #[test]
    fn mean_and_std_apply_to_channels_in_the_order_of_the_input() {
        let near = |given: &[f32], wanted: &[f32]| {
            let same = given.len() == wanted.len() && given.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(same, "{given:?} instead of {wanted:?}");
        };
        let gray = row(&picture(), &described(Colour::Gray, Layout::Nchw, &[0.5], &[0.25])).unwrap();
        near(&gray, &[(29.0 / 255.0 - 0.5) / 0.25, (22.0 / 255.0 - 0.5) / 0.25]);
        let model = described(Colour::Rgb, Layout::Nchw, &[0.1, 0.2, 0.3], &[1.0, 2.0, 4.0]);
        let (r, g, b) = (30.0 / 255.0 - 0.1, 20.0 / 255.0 - 0.2, 10.0 / 255.0 - 0.3);
        near(&row(&picture(), &model).unwrap(), &[-0.1, r, -0.1, g / 2.0, 0.7 / 4.0, b / 4.0]);
    }

    #[test]
    fn the_error_names_the_setting_that_the_input_contradicts() {
        let base = Settings::defaults().unwrap().vision.emotion;
        let key = |input: &[Option<usize>], change: &dyn Fn(&mut EmotionModel)| {
            let mut model = base.clone();
            change(&mut model);
            match check_input(input, &model) {
                Ok(()) => "fits",
                Err(VisionError::Setting { key, .. }) => key,
                Err(other) => panic!("{other}"),
            }
        };
        let nchw = [None, Some(1), Some(48), Some(48)];
        assert_eq!(key(&nchw, &|_| {}), "fits");
        assert_eq!(key(&[None; 4], &|_| {}), "fits");
        assert_eq!(key(&nchw, &|model| model.width = 64), "vision.emotion.width");
        assert_eq!(key(&nchw, &|model| model.height = 64), "vision.emotion.height");
        assert_eq!(key(&nchw, &|model| model.colour = Colour::Rgb), "vision.emotion.colour");
        assert_eq!(key(&nchw, &|model| model.layout = Layout::Nhwc), "vision.emotion.layout");
        assert_eq!(key(&[None, Some(48), Some(48), Some(1)], &|_| {}), "vision.emotion.layout");
        assert_eq!(key(&[None, Some(2304)], &|_| {}), "vision.emotion.file");
    }

    /// The outputs of the seven emotions in the built-in model.
    const SEVEN: [usize; 7] = [4, 5, 6, 1, 3, 2, 0];
    const NO_ADJUSTMENT: [f32; 8] = [0.0; 8];

    fn seven(values: &[f32], adjustment: &[f32], output: ClassifierOutput) -> Vec<f32> {
        probabilities(values, adjustment, &SEVEN, output).unwrap()
    }

    fn near(given: &[f32], wanted: &[f32]) {
        let same = given.len() == wanted.len() && given.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(same, "{given:?} instead of {wanted:?}");
    }

    #[test]
    fn outputs_are_assigned_to_their_labels_and_dropped_outputs_are_ignored() {
        let labels = Settings::defaults().unwrap().vision.emotion.labels;
        let output = |emotion: Emotion| labels.iter().position(|label| label == emotion.label()).unwrap();
        assert_eq!(Emotion::ALL.map(output), SEVEN);

        // neutral, happy, surprise, sad, angry, disgust, fear, dropped
        let given = [0.1, 0.2, 0.05, 0.05, 0.02, 0.03, 0.05, 0.5];
        let wanted = [0.04, 0.06, 0.1, 0.4, 0.1, 0.1, 0.2];
        near(&seven(&given, &NO_ADJUSTMENT, ClassifierOutput::Probabilities), &wanted);
        near(&seven(&given.map(f32::ln), &NO_ADJUSTMENT, ClassifierOutput::Logits), &wanted);
        // If all outputs are kept, they stay in their order.
        near(
            &probabilities(&given, &NO_ADJUSTMENT, &[0, 1, 2, 3, 4, 5, 6, 7], ClassifierOutput::Probabilities).unwrap(),
            &given,
        );
    }

    #[test]
    fn outputs_that_are_not_finite_give_no_result() {
        let mut given = [0.0; 8];
        given[7] = f32::NAN;
        assert_eq!(probabilities(&given, &NO_ADJUSTMENT, &SEVEN, ClassifierOutput::Logits), None);
        let dropped_alone = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        near(&seven(&dropped_alone, &NO_ADJUSTMENT, ClassifierOutput::Probabilities), &[1.0 / 7.0; 7]);
    }

    #[test]
    fn a_prior_must_have_one_number_above_zero_for_each_output() {
        near(&parse_prior("0.1, 0.45,0.45", 3, 0.5).unwrap(), &[1.151_293, 0.399_254, 0.399_254]);
        near(&parse_prior("0.5,0.5", 2, 0.0).unwrap(), &[0.0, 0.0]);
        for text in ["", "0.5", "0.5,0.5,0.5", "0.5,0", "0.5,-1", "0.5,NaN", "0.5,inf", "0.5;0.5", "half,half"] {
            assert_eq!(parse_prior(text, 2, 0.5), None, "{text:?}");
        }
    }

    #[test]
    fn removing_the_whole_prior_makes_an_uninformative_picture_uniform() {
        // For a picture without information the network returns the prior.
        let prior = [0.4, 0.2, 0.1, 0.1, 0.08, 0.02, 0.05, 0.05_f32];
        let text = prior.map(|share| share.to_string()).join(",");
        for (logits, output) in
            [(prior.map(f32::ln), ClassifierOutput::Logits), (prior, ClassifierOutput::Probabilities)]
        {
            near(&seven(&logits, &parse_prior(&text, 8, 1.0).unwrap(), output), &[1.0 / 7.0; 7]);
            let as_trained = seven(&logits, &parse_prior(&text, 8, 0.0).unwrap(), output);
            near(&as_trained, &SEVEN.map(|at| prior[at] / 0.95));
        }
    }

    proptest! {
        #[test]
        fn seven_probabilities_sum_to_one_and_keep_the_order_of_the_logits(
            logits in prop::collection::vec(-80.0..80.0_f32, 8),
        ) {
            let seven = seven(&logits, &NO_ADJUSTMENT, ClassifierOutput::Logits);
            prop_assert!((seven.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            prop_assert!(seven.iter().all(|p| (0.0..=1.0).contains(p)));
            let (neutral, happy) = (seven[Emotion::Neutral.index()], seven[Emotion::Happy.index()]);
            prop_assert!((logits[0] >= logits[1]) == (neutral >= happy) || neutral == happy);
        }

        #[test]
        fn removing_more_of_the_prior_raises_the_rarest_class(
            logits in prop::collection::vec(-5.0..5.0_f32, 8), less in 0.0..1.0_f32, more in 0.0..1.0_f32,
        ) {
            let text = "0.3,0.2,0.1,0.1,0.1,0.01,0.09,0.1";
            let disgust = |strength| {
                let adjustment = parse_prior(text, 8, strength).unwrap();
                seven(&logits, &adjustment, ClassifierOutput::Logits)[Emotion::Disgust.index()]
            };
            let (less, more) = (less.min(more), less.max(more));
            prop_assert!(disgust(less) <= disgust(more) + 1e-6);
        }

        #[test]
        fn logits_and_their_probabilities_give_the_same_result(
            logits in prop::collection::vec(-5.0..5.0_f32, 8), strength in 0.0..1.0_f32,
        ) {
            let adjustment = parse_prior("0.3,0.2,0.1,0.1,0.1,0.01,0.09,0.1", 8, strength).unwrap();
            let shares: Vec<f32> = logits.iter().map(|logit| logit.exp()).collect();
            let from_logits = seven(&logits, &adjustment, ClassifierOutput::Logits);
            let from_shares = seven(&shares, &adjustment, ClassifierOutput::Probabilities);
            prop_assert!(from_logits.iter().zip(from_shares).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
