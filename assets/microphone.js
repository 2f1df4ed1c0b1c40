// Runs in the thread of the browser's sound: takes what the microphone hears, and posts it in blocks of a tenth of a
// second, mono with 16,000 samples a second, each a 16-bit integer. The page filters the sound before, so that little
// above 8 kHz is left.

const RATE = 16_000;
const BLOCK = RATE / 10;

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.step = sampleRate / RATE;
    /** Position of the next sample, counted in samples of the input from the previous block's last one. */
    this.next = 0;
    this.last = 0;
    this.block = new DataView(new ArrayBuffer(BLOCK * 2));
    this.filled = 0;
  }

  process([[samples]]) {
    if (!samples) return true;
    for (; this.next < samples.length; this.next += this.step) {
      const at = Math.floor(this.next);
      const before = at === 0 ? this.last : samples[at - 1];
      this.push(before + (this.next - at) * (samples[at] - before));
    }
    this.next -= samples.length;
    this.last = samples[samples.length - 1];
    return true;
  }

  push(value) {
    this.block.setInt16(this.filled * 2, Math.round(Math.max(-1, Math.min(1, value)) * 32767), true);
    this.filled += 1;
    if (this.filled < BLOCK) return;
    this.port.postMessage(this.block.buffer, [this.block.buffer]);
    this.block = new DataView(new ArrayBuffer(BLOCK * 2));
    this.filled = 0;
  }
}

registerProcessor("microphone", Microphone);
