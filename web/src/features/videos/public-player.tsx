import { useQueryClient } from "@tanstack/react-query";
import type { Ref } from "react";
import type { Schemas } from "@/api/client";
import { Player } from "@/features/player/player";
import type { PlayerHandle } from "@/features/player/types";
import { watchQuery } from "./watch-query";

type PublicPlayerProps = {
  video: Schemas["WatchPage"];
  control?: Ref<PlayerHandle>;
  startAt?: number | undefined;
  fill?: boolean;
  className?: string;
};

/** The player of a page that everybody may see. */
export function PublicPlayer({ video, control, startAt, ...look }: PublicPlayerProps) {
  const queryClient = useQueryClient();
  const { videoId, playbackUrl } = video;
  if (!playbackUrl) return null; // it stopped being playable between two looks
  return (
    <Player
      source={{ ...video, playbackUrl }}
      startAt={startAt}
      autoPlay={startAt !== undefined}
      {...(control && { controlRef: control })}
      {...look}
      onExpired={async () =>
        (await queryClient.fetchQuery({ ...watchQuery(videoId), staleTime: 0 })).playbackUrl
      }
    />
  );
}
