import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { toast } from "@/components/toast";
import { usePolling } from "@/features/live/live";
import { hasEnded } from "@/features/live/reduce";
import { videoKeys } from "@/features/videos/queries";
import { cancelJob, jobKeys, jobQuery, retryJob } from "./queries";

const QUEUE_POLL_MS = 10_000;

/** A job as it is now. */
export function useJob(jobId: string) {
  const polling = usePolling();
  return useQuery({
    ...jobQuery(jobId),
    // One's place in the queue changes when others move, of which nothing is told.
    refetchInterval: ({ state }) => {
      if (!state.data || hasEnded(state.data.state)) return false;
      return polling || (state.data.state === "queued" && QUEUE_POLL_MS);
    },
  });
}

/** What a person can do with a job. */
export function useJobActions(jobId: string) {
  const queryClient = useQueryClient();
  const refresh = () =>
    Promise.all([
      queryClient.invalidateQueries({ queryKey: jobKeys.one(jobId) }),
      queryClient.invalidateQueries({ queryKey: videoKeys.allDetails() }),
    ]);
  const cancel = useMutation({
    mutationFn: () => cancelJob(jobId), // its dialog tells what goes wrong
    onSettled: refresh,
  });
  const retry = useMutation({
    mutationFn: (step?: string) => retryJob(jobId, step),
    onError: (error) => toast.problem("The job could not be started again", error),
    onSettled: refresh,
  });
  return { cancel, retry };
}

/** The time now, moving on every second while `running`. */
export function useNow(running: boolean): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [running]);
  return now;
}
