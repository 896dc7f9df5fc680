import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Download, Pencil, Trash2, Upload } from "lucide-react";
import { type FormEvent, useState } from "react";
import type { CaptionItem } from "@/api/ai";
import type { VideoDetails } from "@/api/client";
import { asProblem } from "@/api/problem";
import { Button, buttonClass } from "@/components/button";
import { ConfirmDialog, Dialog } from "@/components/dialog";
import { Field, Input } from "@/components/field";
import { ProblemNote } from "@/components/problem-note";
import { toast } from "@/components/toast";
import { videoKeys } from "@/features/videos/queries";
import { formatLanguage } from "@/lib/format";
import { captionLabel, captionOrigin } from "./labels";
import { deleteCaptions, uploadCaptions } from "./queries";

/** The captions of a video: editing, files, and uploads of one's own. */
export function TrackList({ video }: { video: VideoDetails }) {
  const queryClient = useQueryClient();
  const [leaving, setLeaving] = useState<CaptionItem | null>(null);
  const [uploading, setUploading] = useState(false);
  const refresh = () => queryClient.invalidateQueries({ queryKey: videoKeys.details(video.videoId) });
  return (
    <div className="grid gap-3 text-sm">
      {video.captions.length === 0 ? (
        <p className="text-muted">There are no captions. Upload a file of WebVTT or SRT, if you have one.</p>
      ) : (
        <ul className="grid gap-3" aria-label="Captions">
          {video.captions.map((track) => (
            <Track
              key={track.name}
              videoId={video.videoId}
              track={track}
              onDelete={() => setLeaving(track)}
            />
          ))}
        </ul>
      )}
      <Button size="sm" className="w-fit" onClick={() => setUploading(true)}>
        <Upload /> Upload captions
      </Button>
      <ConfirmDialog
        open={leaving !== null}
        onClose={() => setLeaving(null)}
        title="Delete these captions?"
        confirmLabel="Delete"
        onConfirm={async () => {
          if (!leaving) return;
          await deleteCaptions(video.videoId, leaving.name);
          await refresh();
          toast.good("Captions deleted");
        }}
      >
        {leaving && `“${captionLabel(leaving)}” is gone for everybody at once. This cannot be undone.`}
      </ConfirmDialog>
      <Dialog open={uploading} onClose={() => setUploading(false)} title="Upload captions">
        <UploadForm
          videoId={video.videoId}
          language={video.language}
          onDone={async () => {
            setUploading(false);
            await refresh();
            toast.good("Captions uploaded");
          }}
        />
      </Dialog>
    </div>
  );
}

type TrackProps = { videoId: string; track: CaptionItem; onDelete: () => void };

function Track({ videoId, track, onDelete }: TrackProps) {
  const label = captionLabel(track);
  const editable = track.version > 0;
  const facts = [
    track.language &&
      track.language !== "und" &&
      formatLanguage(track.language) !== label &&
      formatLanguage(track.language),
    track.automatic && "automatic",
    captionOrigin(track),
    track.forced && "forced",
  ];
  return (
    <li className="grid gap-1.5 rounded-xl border border-line p-3" data-track={track.name}>
      <p className="font-medium wrap-anywhere">{label}</p>
      <p className="text-muted text-xs">{facts.filter(Boolean).join(" · ")}</p>
      <div className="flex flex-wrap gap-1.5">
        {editable && (
          <Link
            to="/video/$videoId/captions/$name"
            params={{ videoId, name: track.name }}
            className={buttonClass({ size: "sm" })}
            aria-label={`Edit the captions ${label}`}
          >
            <Pencil aria-hidden="true" /> Edit
          </Link>
        )}
        <a
          href={asDownload(track.url)}
          download=""
          className={buttonClass({ size: "sm", variant: "ghost" })}
          aria-label={`Download the captions ${label} as WebVTT`}
        >
          <Download aria-hidden="true" /> WebVTT
        </a>
        {track.srtUrl && (
          <a
            href={asDownload(track.srtUrl)}
            download=""
            className={buttonClass({ size: "sm", variant: "ghost" })}
            aria-label={`Download the captions ${label} as SRT`}
          >
            <Download aria-hidden="true" /> SRT
          </a>
        )}
        {editable && (
          <Button size="sm" variant="ghost" aria-label={`Delete the captions ${label}`} onClick={onDelete}>
            <Trash2 />
          </Button>
        )}
      </div>
    </li>
  );
}

function asDownload(url: string): string {
  return `${url}${url.includes("?") ? "&" : "?"}download=true`;
}

const MOST_BYTES = 4_000_000;
const COMMON = [
  "en",
  "es",
  "fr",
  "de",
  "it",
  "pt",
  "nl",
  "pl",
  "ru",
  "uk",
  "tr",
  "ar",
  "hi",
  "zh",
  "ja",
  "ko",
];

type UploadFormProps = { videoId: string; language: string; onDone: () => Promise<void> };

function UploadForm({ videoId, language, onDone }: UploadFormProps) {
  const [file, setFile] = useState<File | null>(null);
  const [chosen, setChosen] = useState(language);
  const [title, setTitle] = useState("");
  const upload = useMutation({
    mutationFn: async (from: File) => uploadCaptions(videoId, chosen.trim(), title.trim(), await from.text()),
    onSuccess: onDone,
  });
  const problem = upload.error ? asProblem(upload.error) : null;
  const large = file !== null && file.size > MOST_BYTES;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (file && !large && chosen.trim()) upload.mutate(file);
  };
  return (
    <form className="grid gap-4" onSubmit={submit}>
      <Field
        label="File"
        error={large ? "Captions have less than 4 MB: this is another kind of file." : undefined}
      >
        {(control) => (
          <input
            {...control}
            type="file"
            accept=".vtt,.srt,text/vtt,application/x-subrip"
            required
            className="text-sm file:mr-3 file:h-9 file:rounded-lg file:border file:border-line file:bg-surface file:px-3 file:text-ink"
            onChange={(event) => setFile(event.target.files?.[0] ?? null)}
          />
        )}
      </Field>
      <Field label="Language" hint="As in en, de or pt-BR." error={problem?.fieldMessage("/language")}>
        {(control) => (
          <>
            <Input
              {...control}
              list="caption-languages"
              required
              maxLength={35}
              spellCheck={false}
              autoCapitalize="none"
              value={chosen}
              onChange={(event) => setChosen(event.target.value)}
            />
            <datalist id="caption-languages">
              {COMMON.map((tag) => (
                <option key={tag} value={tag}>
                  {formatLanguage(tag)}
                </option>
              ))}
            </datalist>
          </>
        )}
      </Field>
      <Field label="Name" hint="For the menu of the player; empty: the language's name.">
        {(control) => (
          <Input
            {...control}
            maxLength={100}
            value={title}
            onChange={(event) => setTitle(event.target.value)}
          />
        )}
      </Field>
      {problem && <ProblemNote problem={problem} />}
      <div className="flex justify-end">
        <Button type="submit" variant="primary" disabled={!file || large} busy={upload.isPending}>
          Upload
        </Button>
      </div>
    </form>
  );
}
