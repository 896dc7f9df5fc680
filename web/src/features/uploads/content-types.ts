/** By extension, since browsers know few of these types and tell none for the rest. */
const TYPES: Record<string, string> = {
  "3gp": "video/3gpp",
  avi: "video/x-msvideo",
  flac: "audio/flac",
  flv: "video/x-flv",
  m2ts: "video/mp2t",
  m4a: "audio/mp4",
  m4v: "video/x-m4v",
  mkv: "video/x-matroska",
  mov: "video/quicktime",
  mp3: "audio/mpeg",
  mp4: "video/mp4",
  mpeg: "video/mpeg",
  mpg: "video/mpeg",
  mts: "video/mp2t",
  mxf: "application/mxf",
  ogg: "audio/ogg",
  ogv: "video/ogg",
  ts: "video/mp2t",
  wav: "audio/wav",
  webm: "video/webm",
  wmv: "video/x-ms-wmv",
};

/** What the file picker offers. */
export const ACCEPT = ["video/*", "audio/*", ...Object.keys(TYPES).map((extension) => `.${extension}`)].join(
  ",",
);

/** The media type of a video or sound by what the browser says, else by its name; null for anything else. */
export function contentTypeOf(file: { name: string; type: string }): string | null {
  if (/^(video|audio)\//.test(file.type)) return file.type;
  return TYPES[file.name.split(".").at(-1)?.toLowerCase() ?? ""] ?? null;
}
