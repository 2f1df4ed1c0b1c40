import type { components } from "./schema.js";

type Schemas = components["schemas"];
export type Result = Schemas["Result"];
export type Analysis = Schemas["Analysis"];
export type TimelineRow = Schemas["TimelineRow"];
export type Listed = Schemas["Listed"];
export type Pictures = Schemas["Pictures"];
export type Upload = Schemas["Upload"];
export type ShareLink = Schemas["ShareLink"];
export type NoticeText = Schemas["NoticeText"];
export type Comparison = Schemas["Comparison"];
export type Batch = Schemas["Batch"];
export type BatchItemRequest = Schemas["BatchItemRequest"];
export type ListedBatch = Schemas["ListedBatch"];
export type LiveConfigured = Schemas["LiveConfigured"];
export type LiveFaces = Schemas["LiveFaces"] & { type: "faces" };
export type LiveSkipped = Schemas["LiveSkipped"] & { type: "skipped" };
export type LiveFinished = Schemas["LiveFinished"];
export type { components };

/** Options of an analysis. The documentation of visage (API.md) describes them. */
export interface Options {
  email?: string | string[];
  webhook_url?: string;
  sample_every?: number;
  samples_per_second?: number;
  sampling?: "exact" | "fast";
  max_faces?: number;
  priority?: "high" | "normal" | "low";
  language?: "de" | "en" | "es" | "fr";
  gaze?: boolean;
  speech?: boolean;
  detail?: "expressions";
  notice?: "given";
  notice_version?: string;
}

/** Options of all analyses of a batch. `webhook_url` gets one webhook when the batch has ended. */
export type BatchOptions = Omit<Options, "email">;

/** The token of a result, or the token and the number of a person in it. */
export type Take = string | readonly [token: string, person: number];

/** Options of pictures. `face_state` is that of the last answer, so that people keep their ids. */
export interface PictureOptions extends Pick<Options, "max_faces" | "gaze" | "detail" | "notice" | "notice_version"> {
  face_state?: string;
}

/** Options of a live session. */
export interface LiveOptions extends Pick<
  Options,
  "max_faces" | "gaze" | "detail" | "speech" | "language" | "webhook_url" | "notice" | "notice_version"
> {
  name?: string;
  email?: string;
  /** Gets errors of messages that have no answer, such as sound. */
  onRefused?: (error: ProblemError) => void;
}

export interface Abortable {
  signal?: AbortSignal;
}

export interface Sending extends Abortable {
  /** The file name that results show. */
  name?: string;
  /** Gets the bytes sent and the size. */
  onProgress?: (sent: number, size: number) => void;
}

export interface Retries {
  attempts?: number;
  firstPauseS?: number;
  longestPauseS?: number;
}

/** The service refused a request. */
export class ProblemError extends Error {
  readonly status: number;
  /** The stable name of the problem; null if something in between answered. */
  readonly code: string | null;
  readonly requestId: string | null;
  /** All members of the problem. */
  readonly members: Record<string, unknown>;
}

/** The analysis ended without a result. */
export class AnalysisFailed extends Error {
  readonly result: Result;
}

/** A live session has ended, so there is no answer. If it had begun, its result is under the token. */
export class SessionEnded extends Error {
  readonly token: string | null;
}

/** A live session. `Client.live` opens it. */
export class LiveSession {
  private constructor();
  readonly configured: LiveConfigured;
  /** Null until the session has ended. */
  readonly finished: LiveFinished | null;
  /** Sends a JPEG, PNG or WebP file with the time at which it was taken, by any clock. */
  picture(file: Blob, timeS?: number): Promise<LiveFaces | LiveSkipped>;
  /** Sends samples of sound, 16,000 a second, with the time of the first one. */
  sound(samples: Int16Array, timeS: number): void;
  finish(): Promise<LiveFinished>;
}

export class Client {
  /** `base` is the address of the service; in a page of the service itself, leave it empty. */
  constructor(base?: string, settings?: { key?: string; fetch?: typeof fetch; retries?: Retries });
  analyze(video: Blob, options?: Options & Sending & { timeoutS?: number }): Promise<Result>;
  upload(video: Blob, options?: Options & Sending): Promise<string>;
  uploadAddress(address: string, options?: Options & Abortable): Promise<string>;
  beginUpload(sizeBytes: number, options?: Pick<Options, "notice" | "notice_version"> & Abortable): Promise<Upload>;
  sendParts(video: Blob, upload: string, options?: Omit<Sending, "name">): Promise<void>;
  start(upload: string, options?: Options & { name?: string } & Abortable): Promise<string>;
  wait(
    token: string,
    options?: { timeoutS?: number; onProgress?: (result: Result) => void } & Abortable,
  ): Promise<Result>;
  result(token: string, options?: Abortable): Promise<Result>;
  timeline(token: string, options?: Abortable): AsyncGenerator<TimelineRow, void, void>;
  timelineCsv(token: string, options?: Abortable): Promise<string>;
  report(token: string, options?: { language?: string } & Abortable): Promise<string>;
  share(token: string, options?: Abortable): Promise<ShareLink>;
  erase(token: string, options?: Abortable): Promise<void>;
  analyses(
    filters?: { status?: Listed["status"]; created_from?: string; created_before?: string } & Abortable,
  ): AsyncGenerator<Listed, void, void>;
  compare(
    tokens?: readonly Take[],
    options?: {
      /** Results by the name of their group. The first group is that with which the others are compared. */
      groups?: Record<string, readonly Take[]> | ReadonlyMap<string, readonly Take[]>;
      /** The person in results without one. By default the person who was seen in most samples. */
      person?: number;
    } & Abortable,
  ): Promise<Comparison>;
  startBatch(
    items: readonly (string | BatchItemRequest)[],
    options?: BatchOptions & { idempotencyKey?: string } & Abortable,
  ): Promise<Batch>;
  batch(id: string, options?: Abortable): Promise<Batch>;
  waitBatch(
    id: string,
    options?: { timeoutS?: number; onProgress?: (batch: Batch) => void } & Abortable,
  ): Promise<Batch>;
  batches(options?: Abortable): AsyncGenerator<ListedBatch, void, void>;
  cancelBatch(id: string, options?: { erase?: boolean } & Abortable): Promise<void>;
  pictures(pictures: Iterable<Blob>, options?: PictureOptions & Abortable): Promise<Pictures>;
  live(options?: LiveOptions & Abortable): Promise<LiveSession>;
  notice(options?: { language?: string } & Abortable): Promise<NoticeText>;
}
