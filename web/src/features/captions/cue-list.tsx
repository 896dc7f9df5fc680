import { defaultRangeExtractor, useVirtualizer } from "@tanstack/react-virtual";
import { type Ref, useImperativeHandle, useRef } from "react";
import { CueRow, type RowActions } from "./cue-row";
import { type Cue, warningsOf } from "./cues";

const ROW_PX = 132;
const GAP_PX = 8;

export type CueListHandle = {
  /** Bring a cue into the middle. */
  show(index: number): void;
  /** Give the keyboard to a cue's text, with the caret at a place in it. */
  focus(index: number, caret?: number): void;
};

type CueListProps = {
  cues: readonly Cue[];
  currentIndex: number;
  selectedId: number | null;
  durationSeconds: number | null;
  actions: RowActions;
  handle: Ref<CueListHandle>;
};

/** The cues in order. Only those in sight exist in the page, and the one that is being edited. */
export function CueList({ cues, currentIndex, selectedId, durationSeconds, actions, handle }: CueListProps) {
  const box = useRef<HTMLDivElement>(null);
  const selectedIndex = cues.findIndex((cue) => cue.id === selectedId);
  const rows = useVirtualizer({
    count: cues.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW_PX,
    gap: GAP_PX,
    overscan: 6,
    getItemKey: (index) => cues[index]?.id ?? index,
    rangeExtractor: (range) => {
      const shown = defaultRangeExtractor(range);
      if (selectedIndex < 0 || shown.includes(selectedIndex)) return shown;
      return [...shown, selectedIndex].toSorted((a, b) => a - b);
    },
  });
  useImperativeHandle(handle, () => ({
    show: (index) => rows.scrollToIndex(index, { align: "center" }),
    focus: (index, caret) => {
      rows.scrollToIndex(index, { align: "auto" });
      // The row may have to be drawn first: a far one comes with the scrolling.
      const tryFocus = (left: number) => {
        const text = box.current?.querySelector<HTMLTextAreaElement>(
          `[data-index="${index}"] [data-cue-text]`,
        );
        if (text) {
          text.focus({ preventScroll: true });
          if (caret !== undefined) text.setSelectionRange(caret, caret);
        } else if (left > 0) requestAnimationFrame(() => tryFocus(left - 1));
      };
      requestAnimationFrame(() => tryFocus(20));
    },
  }));
  return (
    <div
      ref={box}
      className="h-[60dvh] min-h-80 overflow-y-auto overscroll-contain lg:h-[calc(100dvh-17rem)]"
    >
      <ol aria-label="Cues" className="relative" style={{ height: rows.getTotalSize() }}>
        {rows.getVirtualItems().map(({ key, index, start }) => {
          const cue = cues[index];
          return (
            cue && (
              <li
                key={key}
                ref={rows.measureElement}
                data-index={index}
                aria-setsize={cues.length}
                aria-posinset={index + 1}
                aria-current={index === currentIndex || undefined}
                className="absolute inset-x-0 top-0 px-0.5"
                style={{ translate: `0 ${start}px` }}
              >
                <CueRow
                  cue={cue}
                  index={index}
                  current={index === currentIndex}
                  selected={cue.id === selectedId}
                  warnings={warningsOf(cues, index, durationSeconds)}
                  actions={actions}
                />
              </li>
            )
          );
        })}
      </ol>
    </div>
  );
}
