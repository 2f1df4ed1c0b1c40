// Compiled, not run: what users of the types write.
import { Client, type Result, type TimelineRow, type components } from "visage-client";

type Remark = components["schemas"]["Remark"];

// The member `kind` tells the variants of a union apart.
function sentence(remark: Remark): string {
  switch (remark.kind) {
    case "showed":
      return remark.shown.map((shown) => `${shown.emotion}: ${shown.percent}`).join();
    case "strongest":
    case "weakest":
    case "only":
      return `${remark.part}: ${remark.value} (${remark.interval?.[0] ?? "unknown"})`;
    case "person":
      return remark.remarks.map(sentence).join();
    case "try":
      return remark.advice;
    default:
      return remark.kind;
  }
}

export async function read(video: File): Promise<string[]> {
  const visage = new Client("http://127.0.0.1:8000", { key: "vis_..." });
  const result: Result = await visage.analyze(video, { sample_every: 10, email: ["ann@example.org"], timeoutS: 60 });
  const rows: TimelineRow[] = [];
  for await (const row of visage.timeline(result.token)) rows.push(row);
  const happiest = Math.max(...rows.map((row) => row.emotions.happy));
  // @ts-expect-error: no such option
  await visage.upload(video, { sample_evry: 10 });
  // @ts-expect-error: the result may be missing
  result.analysis.summary;
  return [...(result.analysis?.summary.remarks ?? []).map(sentence), `${happiest}`];
}

export async function several(addresses: string[]): Promise<number> {
  const visage = new Client();
  const started = await visage.startBatch([...addresses, { video_url: "s3://films/b.mp4" }], { max_faces: 1 });
  const batch = await visage.waitBatch(started.id, { onProgress: ({ fraction }) => console.log(fraction) });
  // @ts-expect-error: no mails are sent for a batch
  await visage.startBatch(addresses, { email: "ann@example.org" });
  const [first, ...others] = batch.items.flatMap(({ token }) => token ?? []);
  // @ts-expect-error: a person is a number
  await visage.compare([[first, "2"]]);
  const groups = new Map([["after", others]]);
  const { differences } = await visage.compare([[first, 2]], { groups, person: 1 });
  return differences[0]?.figures["happy"]?.value ?? 0;
}

export async function watch(pictures: AsyncIterable<Blob>): Promise<string[]> {
  const session = await new Client().live({ max_faces: 1 });
  const seen: string[] = [];
  for await (const picture of pictures) {
    const answer = await session.picture(picture);
    if (answer.type === "faces") seen.push(...answer.faces.map((face) => face.state.emotion));
  }
  return [...seen, (await session.finish()).token];
}
