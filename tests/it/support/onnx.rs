//! Small custom models, written directly in the ONNX format. It is protobuf: each field has a number, a type and a
//! length (onnx.proto, IR version 8, operators of version 13).

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: Self) -> Self {
        self.bytes(field, &value.0)
    }
}

fn node(kind: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
    node.text(2, output).text(3, output).text(4, kind)
}

fn floats(name: &str, sizes: &[u64], values: &[f32]) -> Message {
    let tensor = sizes.iter().fold(Message::default(), |tensor, size| tensor.number(1, *size)).number(2, 1);
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor.text(8, name).bytes(9, &raw)
}

/// Describes an input or output: a tensor of 32-bit floats with any number of rows.
fn port(name: &str, sizes: &[u64]) -> Message {
    let rows = Message::default().message(1, Message::default().text(2, "rows"));
    let shape = sizes.iter().fold(rows, |shape, size| shape.message(1, Message::default().number(1, *size)));
    let tensor = Message::default().number(1, 1).message(2, shape);
    Message::default().text(1, name).message(2, Message::default().message(1, tensor))
}

/// Returns a model that flattens each row, multiplies it by weights, adds a bias and applies softmax.
fn classifier(sizes: &[u64], weights: &[f32], bias: &[f32]) -> Vec<u8> {
    let (values, labels) = (sizes.iter().product::<u64>(), bias.len() as u64);
    assert_eq!(weights.len() as u64, values * labels);
    let graph = Message::default()
        .message(1, node("Flatten", &["pixels"], "flat"))
        .message(1, node("Gemm", &["flat", "weights", "bias"], "logits"))
        .message(1, node("Softmax", &["logits"], "probabilities"))
        .text(2, "classifier")
        .message(5, floats("weights", &[values, labels], weights))
        .message(5, floats("bias", &[labels], bias))
        .message(11, port("pixels", sizes))
        .message(12, port("probabilities", &[labels]));
    let operators = Message::default().text(1, "").number(2, 13);
    Message::default().number(1, 8).message(7, graph).message(8, operators).0
}

/// Returns weights for which the logit of a label is the mean of all values times a factor.
fn means(values: u64, factors: &[f32]) -> Vec<f32> {
    (0..values).flat_map(|_| factors.iter().map(|factor| factor / values as f32)).collect()
}

/// Returns a classifier of 48 x 48 grey pictures as Keras exports it, with the labels in the order angry, disgust,
/// fear, happy, sad, surprise, neutral. A black picture is surprise, a slightly lighter one is fear, and one with
/// values above 1 is angry.
pub fn keras_model() -> Vec<u8> {
    let factors = [100.0, 0.0, 20.0, 0.0, 0.0, 0.0, 0.0];
    let bias = [-100.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0];
    classifier(&[48, 48, 1], &means(48 * 48, &factors), &bias)
}

/// Returns a classifier of 15 frames with 468 points each, whose input has this rank. The result is the first label
/// without a face, the third with one, and the fifth with points in pixels.
pub fn clip_model(rank: usize) -> Vec<u8> {
    let values = 15 * 1404;
    let sizes: &[u64] = if rank == 2 { &[15 * 1404] } else { &[15, 1404] };
    classifier(sizes, &means(values, &[0.0, 0.0, 20.0, 0.0, 100.0]), &[1.0, 0.0, 0.0, 0.0, -100.0])
}
