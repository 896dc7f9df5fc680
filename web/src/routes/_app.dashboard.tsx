import { createFileRoute, useNavigate } from "@tanstack/react-router";
import { useCallback } from "react";
import type { VideoStatus } from "@/api/client";
import { inputClass } from "@/components/field";
import { SearchInput } from "@/components/search-input";
import { useSession } from "@/features/auth/session";
import { addFiles } from "@/features/uploads/manager";
import { UploadButton } from "@/features/uploads/upload-button";
import { type VideoFilter, videoListQuery } from "@/features/videos/queries";
import { STATUS } from "@/features/videos/status-words";
import { VideoList } from "@/features/videos/video-list";
import { cn } from "@/lib/cn";
import { useTypedSearch } from "@/lib/use-typed-search";

const STATUSES = Object.keys(STATUS) as VideoStatus[];

export const Route = createFileRoute("/_app/dashboard")({
  validateSearch: (search): VideoFilter => {
    const status = STATUSES.find((one) => one === search.status);
    const q = search.q === undefined ? "" : String(search.q).slice(0, 200);
    return { q: q || undefined, status }; // said even when undefined: the router keeps what is left out as it came
  },
  loaderDeps: ({ search }) => search,
  loader: ({ context, deps }) => void context.queryClient.prefetchInfiniteQuery(videoListQuery(deps)),
  head: () => ({ meta: [{ title: "My videos · Echo" }] }),
  component: Page,
});

function Page() {
  const filter = Route.useSearch();
  const session = useSession();
  const userId = session?.user.id ?? "";
  return (
    <div className="grid gap-5">
      <h1 className="font-bold text-3xl tracking-tight">My videos</h1>
      <div className="flex flex-col gap-3 sm:flex-row sm:items-center">
        <SearchBox q={filter.q ?? ""} />
        <StatusFilter status={filter.status} />
      </div>
      <VideoList
        key={`${filter.q} ${filter.status}`}
        filter={filter}
        uploadButton={
          <UploadButton variant="primary" onFiles={(files) => addFiles(files, userId)}>
            Choose files
          </UploadButton>
        }
      />
    </div>
  );
}

function SearchBox({ q }: { q: string }) {
  const navigate = useNavigate({ from: Route.fullPath });
  const toAddress = useCallback(
    (text: string) =>
      void navigate({
        search: ({ q: _, ...rest }) => ({ ...rest, ...(text && { q: text }) }),
        replace: true,
      }),
    [navigate],
  );
  const [typed, setTyped] = useTypedSearch(q, toAddress);
  return (
    <SearchInput
      boxClassName="sm:w-80"
      aria-label="Search my videos"
      placeholder="Search titles and file names"
      value={typed}
      onChange={setTyped}
    />
  );
}

function StatusFilter({ status }: { status: VideoStatus | undefined }) {
  const navigate = useNavigate({ from: Route.fullPath });
  const choose = (chosen: string) =>
    navigate({
      search: ({ status: _, ...rest }) => ({ ...rest, ...(chosen && { status: chosen as VideoStatus }) }),
      replace: true,
    });
  return (
    <label className="flex items-center gap-2 text-sm">
      <span className="text-muted">Show</span>
      <select
        value={status ?? ""}
        onChange={(event) => void choose(event.target.value)}
        className={cn(inputClass, "h-10 w-auto")}
      >
        <option value="">All</option>
        {STATUSES.map((one) => (
          <option key={one} value={one}>
            {STATUS[one].label}
          </option>
        ))}
      </select>
    </label>
  );
}
