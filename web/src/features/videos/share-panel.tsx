import { Check, Copy } from "lucide-react";
import { useEffect, useId, useState } from "react";
import type { Visibility } from "@/api/client";
import { instance } from "@/api/instance";
import { Button } from "@/components/button";
import { inputClass } from "@/components/field";
import { toast } from "@/components/toast";
import { cn } from "@/lib/cn";

/** The addresses under which others watch, once the visibility allows it. */
export function SharePanel({
  videoId,
  title,
  visibility,
}: {
  videoId: string;
  title: string;
  visibility: Visibility;
}) {
  if (visibility === "private") {
    return (
      <p className="text-muted text-sm">
        Only you can watch this video. Make it unlisted or public to share it.
      </p>
    );
  }
  const base = instance().publicUrl;
  const name = title.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");
  const embed = `<iframe src="${base}/embed/${videoId}" title="${name}" width="640" height="360" style="border:0" allow="autoplay; fullscreen; picture-in-picture" allowfullscreen></iframe>`;
  return (
    <div className="grid gap-4">
      <CopyField label="Link" text={`${base}/watch/${videoId}`} />
      <CopyField label="Embed" text={embed} />
    </div>
  );
}

function CopyField({ label, text }: { label: string; text: string }) {
  const id = useId();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      toast.bad("The browser does not let this page copy", { text: "Select the text and copy it by hand." });
    }
  };
  return (
    <div className="grid gap-1.5">
      <label htmlFor={id} className="font-medium text-sm">
        {label}
      </label>
      <div className="flex gap-2">
        <input
          id={id}
          readOnly
          value={text}
          onFocus={(event) => event.currentTarget.select()}
          className={cn(inputClass, "h-10 min-w-0 flex-1 text-sm")}
        />
        <Button
          size="icon"
          aria-label={copied ? `${label} copied` : `Copy the ${label.toLowerCase()}`}
          onClick={copy}
        >
          {copied ? <Check className="text-good" /> : <Copy />}
        </Button>
      </div>
    </div>
  );
}
