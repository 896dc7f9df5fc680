import { useQuery } from "@tanstack/react-query";
import { createFileRoute } from "@tanstack/react-router";
import { asProblem } from "@/api/problem";
import { Spinner } from "@/components/spinner";
import { PublicPlayer } from "@/features/videos/public-player";
import { watchQuery } from "@/features/videos/watch-query";

/** The player alone, for a frame in somebody else's page. */
export const Route = createFileRoute("/embed/$videoId")({ component: Page });

function Page() {
  const { videoId } = Route.useParams();
  const watch = useQuery(watchQuery(videoId));
  return (
    <main className="grid h-dvh place-items-center bg-black text-white">
      {watch.data && <title>{`${watch.data.title} · Echo`}</title>}
      {watch.isPending && <Spinner />}
      {watch.isError && (
        <p role="alert" className="px-6 text-center">
          {asProblem(watch.error).status === 404
            ? "This video is not here, or is not shared."
            : "The video could not be loaded. Reload the page to try again."}
        </p>
      )}
      {watch.data && <PublicPlayer video={watch.data} fill className="size-full" />}
    </main>
  );
}
