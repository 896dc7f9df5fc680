import { Download } from "lucide-react";
import type { ReactNode } from "react";
import type { VideoDetails } from "@/api/client";
import { buttonClass } from "@/components/button";
import { AiFacts } from "@/features/ai/ai-facts";
import { formatBitrate, formatBytes, formatClock, formatLanguage, formatMoment } from "@/lib/format";

/** What the file is, and what was made of it. */
export function Facts({ video }: { video: VideoDetails }) {
  const { media } = video;
  return (
    <div className="grid gap-4 text-sm">
      <dl className="grid grid-cols-[auto_minmax(0,1fr)] gap-x-4 gap-y-1.5">
        <Fact name="File">{video.filename}</Fact>
        {video.sizeBytes !== null && <Fact name="Size">{formatBytes(video.sizeBytes)}</Fact>}
        <Fact name="Uploaded">{formatMoment(video.createdAt)}</Fact>
        {media && (
          <>
            <Fact name="Length">{formatClock(media.durationSeconds)}</Fact>
            <Fact name="Container">
              {[containerName(media.container), media.bitrateBps && formatBitrate(media.bitrateBps)]
                .filter(Boolean)
                .join(" · ")}
            </Fact>
            {media.video && (
              <Fact name="Picture">
                {[
                  `${media.video.width} × ${media.video.height}`,
                  media.video.codec,
                  `${Number(media.video.fps.toFixed(2))} frames a second`,
                  media.video.hdr && "HDR",
                  media.video.rotationDeg !== 0 && `turned by ${media.video.rotationDeg}°`,
                ]
                  .filter(Boolean)
                  .join(" · ")}
              </Fact>
            )}
            {media.audio.map((sound, index) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: the tracks of a file have no other name
              <Fact key={index} name={media.audio.length > 1 ? `Sound ${index + 1}` : "Sound"}>
                {[
                  sound.codec,
                  sound.channels === 1
                    ? "mono"
                    : sound.channels === 2
                      ? "stereo"
                      : `${sound.channels} channels`,
                  sound.language && formatLanguage(sound.language),
                  sound.title,
                ]
                  .filter(Boolean)
                  .join(" · ")}
              </Fact>
            ))}
            {!media.video && <Fact name="Picture">none, sound only</Fact>}
          </>
        )}
      </dl>
      {media?.warnings.map((warning) => (
        <p key={warning} className="rounded-lg bg-warn-soft p-3">
          {warning}
        </p>
      ))}
      {video.renditions.length > 0 && <Renditions video={video} />}
      {video.ai && video.ai.calls > 0 && <AiFacts videoId={video.videoId} totals={video.ai} />}
      {video.sourceUrl && (
        <a
          href={`${video.sourceUrl}${video.sourceUrl.includes("?") ? "&" : "?"}download=true`}
          className={buttonClass({ size: "sm" })}
        >
          <Download aria-hidden="true" /> Download the original
        </a>
      )}
    </div>
  );
}

/** ffmpeg names a family of formats; people know one of each. */
function containerName(families: string): string {
  if (families.includes("mp4")) return "MP4 or QuickTime";
  if (families.includes("matroska")) return "Matroska or WebM";
  return families.split(",")[0]?.toUpperCase() ?? "";
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt className="text-muted">{name}</dt>
      <dd className="wrap-anywhere">{children}</dd>
    </>
  );
}

function Renditions({ video }: { video: VideoDetails }) {
  return (
    <div className="overflow-x-auto">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <table className="w-full text-left" tabIndex={0}>
        <caption className="pb-1 text-left font-medium">Renditions</caption>
        <thead className="text-muted text-xs">
          <tr>
            <th scope="col" className="py-1 pr-3 font-medium">
              Name
            </th>
            <th scope="col" className="py-1 pr-3 font-medium">
              Picture
            </th>
            <th scope="col" className="py-1 pr-3 text-right font-medium">
              Bitrate
            </th>
            <th scope="col" className="py-1 text-right font-medium">
              Size
            </th>
          </tr>
        </thead>
        <tbody>
          {video.renditions.map((rendition) => (
            <tr key={rendition.name} className="border-line border-t">
              <td className="py-1 pr-3">{rendition.name}</td>
              <td className="py-1 pr-3">
                {rendition.height ? `${rendition.width} × ${rendition.height}` : "sound"}
                {rendition.copied && <span className="block text-muted text-xs">as uploaded</span>}
              </td>
              <td className="py-1 pr-3 text-right whitespace-nowrap">
                {formatBitrate(rendition.averageBitrateBps)}
              </td>
              <td className="py-1 text-right whitespace-nowrap">{formatBytes(rendition.sizeBytes)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
