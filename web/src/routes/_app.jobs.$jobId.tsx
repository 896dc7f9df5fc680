import { useQuery } from "@tanstack/react-query";
import { createFileRoute, Link } from "@tanstack/react-router";
import { ArrowLeft } from "lucide-react";
import { asProblem } from "@/api/problem";
import { PageNotFound } from "@/components/full-page";
import { Skeleton } from "@/components/status";
import { JobSummary } from "@/features/jobs/job-summary";
import { jobQuery } from "@/features/jobs/queries";
import { StepList } from "@/features/jobs/step-list";
import { useJob } from "@/features/jobs/use-job";
import { videoQuery } from "@/features/videos/queries";
import { formatMoment } from "@/lib/format";

export const Route = createFileRoute("/_app/jobs/$jobId")({
  loader: ({ context, params }) => void context.queryClient.prefetchQuery(jobQuery(params.jobId)),
  head: () => ({ meta: [{ title: "Processing · Echo" }] }),
  component: Page,
});

function Page() {
  const { jobId } = Route.useParams();
  const job = useJob(jobId);
  const video = useQuery({ ...videoQuery(job.data?.videoId ?? ""), enabled: job.data !== undefined });
  if (job.isError && [404, 422].includes(asProblem(job.error).status)) return <PageNotFound />;
  return (
    <div className="mx-auto grid max-w-3xl gap-5">
      {job.data ? (
        <Link
          to="/video/$videoId"
          params={{ videoId: job.data.videoId }}
          className="inline-flex w-fit items-center gap-2 text-muted text-sm wrap-anywhere hover:text-ink"
        >
          <ArrowLeft className="size-4 shrink-0" aria-hidden="true" /> {video.data?.title ?? "The video"}
        </Link>
      ) : (
        <Skeleton className="h-5 w-40" />
      )}
      <div>
        <h1 className="font-bold text-3xl tracking-tight">Processing</h1>
        {job.data && <p className="text-muted text-sm">Begun {formatMoment(job.data.createdAt)}</p>}
      </div>
      <JobSummary jobId={jobId} />
      {job.data ? <StepList job={job.data} /> : job.isPending && <Skeleton className="h-96" />}
    </div>
  );
}
