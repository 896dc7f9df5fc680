import { type InfiniteData, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, use, useEffect, useState } from "react";
import type { Job, Schemas, VideoDetails, VideoItem } from "@/api/client";
import { accessToken } from "@/features/auth/session";
import { captionKeys } from "@/features/captions/queries";
import { jobKeys } from "@/features/jobs/queries";
import { videoKeys } from "@/features/videos/queries";
import { refreshLists } from "@/features/videos/refresh";
import { debounced } from "@/lib/debounced";
import { isStepEvent, isVideoEvent, type LiveMessage, type StepEvent } from "./messages";
import { reduceDetails, reduceItem, reduceJob } from "./reduce";
import { type LinkState, LiveSocket } from "./socket";

const LinkContext = createContext<LinkState>("connecting");
const POLL_MS = 5000;
/** Several events of one change come together; one question after them is enough. */
const SETTLE_MS = 300;

type ListPages = InfiniteData<Schemas["VideoList"]>;

/** Feeds the Query cache from the WebSocket for as long as somebody is signed in. */
export function LiveProvider({ userId, children }: { userId: string; children: ReactNode }) {
  const queryClient = useQueryClient();
  const [link, setLink] = useState<LinkState>("connecting");
  useEffect(() => {
    const changed = new Set<string>();
    const refreshSoon = debounced(SETTLE_MS, () => {
      const videoIds = new Set(changed);
      changed.clear();
      // What could not be read now comes with the next event or the next look.
      refreshLists(queryClient, videoIds).catch(() => undefined);
    });
    const refresh = debouncedByKey((key: readonly string[]) =>
      queryClient.invalidateQueries({ queryKey: key }),
    );
    const take = (message: LiveMessage) => {
      patchCache(queryClient, message);
      if (message.type === "job.progress") return;
      if (message.type === "snapshot") {
        if (message.reason === "gap") void queryClient.invalidateQueries({ queryKey: videoKeys.lists() });
        else refreshSoon();
        void queryClient.invalidateQueries({ queryKey: videoKeys.allDetails() });
        void queryClient.invalidateQueries({ queryKey: jobKeys.all });
        return;
      }
      if ("jobId" in message) refresh(jobKeys.one(message.jobId));
      if (message.type !== "video.deleted") {
        refresh(videoKeys.details(message.videoId));
        if (isVideoEvent(message)) refresh(captionKeys.ofVideo(message.videoId));
      }
      if (!isVideoEvent(message) && !showsInList(message)) return;
      changed.add(message.videoId); // a new line, or one with a new poster; the rest was patched in place
      if (message.type !== "video.deleted") refreshSoon();
    };
    const url = `${window.location.origin.replace(/^http/, "ws")}/ws/jobs/status/${userId}`;
    const socket = new LiveSocket({ url, token: accessToken, onMessage: take, onState: setLink });
    socket.start();
    return () => socket.stop();
  }, [userId, queryClient]);
  return <LinkContext value={link}>{children}</LinkContext>;
}

/** Steps that give a line of the list its length or its picture, of which the video's own events tell nothing. */
function showsInList(message: LiveMessage): message is StepEvent {
  return (
    isStepEvent(message) && message.state === "succeeded" && ["inspect", "poster"].includes(message.step)
  );
}

function patchCache(queryClient: ReturnType<typeof useQueryClient>, message: LiveMessage): void {
  queryClient.setQueriesData<Job>({ queryKey: jobKeys.all }, (job) => job && reduceJob(job, message));
  queryClient.setQueriesData<VideoDetails>(
    { queryKey: videoKeys.allDetails() },
    (details) => details && reduceDetails(details, message),
  );
  queryClient.setQueriesData<ListPages>(
    { queryKey: videoKeys.lists() },
    (list) => list && reduceList(list, message),
  );
}

function reduceList(list: ListPages, message: LiveMessage): ListPages {
  const change = (items: VideoItem[]) => {
    if (message.type === "video.deleted") return items.filter((item) => item.videoId !== message.videoId);
    const changed = items.map((item) => reduceItem(item, message));
    return changed.some((item, index) => item !== items[index]) ? changed : items;
  };
  const pages = list.pages.map((page) => {
    const items = change(page.items);
    return items === page.items ||
      (items.length === page.items.length && items.every((item, i) => item === page.items[i]))
      ? page
      : { ...page, items };
  });
  return pages.every((page, index) => page === list.pages[index]) ? list : { ...list, pages };
}

function debouncedByKey(run: (key: readonly string[]) => void): (key: readonly string[]) => void {
  const pending = new Map<string, () => void>();
  return (key) => {
    const name = key.join(" ");
    const later = pending.get(name) ?? debounced(SETTLE_MS, () => run(key));
    pending.set(name, later);
    later();
  };
}

export function useLink(): LinkState {
  return use(LinkContext);
}

/** How often to ask while nothing is told; `false` while it is live. */
export function usePolling(): number | false {
  return useLink() === "polling" ? POLL_MS : false;
}
