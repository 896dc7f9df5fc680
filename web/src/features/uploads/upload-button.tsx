import { Upload } from "lucide-react";
import { type ReactNode, useRef } from "react";
import { Button, type ButtonLook } from "@/components/button";
import { ACCEPT } from "./content-types";

type UploadButtonProps = ButtonLook & {
  onFiles: (files: File[]) => void;
  multiple?: boolean;
  children: ReactNode;
  className?: string;
  label?: string;
};

/** A button that opens the file picker. */
export function UploadButton({ onFiles, multiple = true, children, label, ...look }: UploadButtonProps) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <Button {...look} aria-label={label} onClick={() => input.current?.click()}>
        <Upload />
        {children}
      </Button>
      <input
        ref={input}
        type="file"
        hidden
        accept={ACCEPT}
        multiple={multiple}
        onChange={(event) => {
          const files = [...(event.currentTarget.files ?? [])];
          event.currentTarget.value = ""; // the same file may be chosen again
          if (files.length) onFiles(files);
        }}
      />
    </>
  );
}
