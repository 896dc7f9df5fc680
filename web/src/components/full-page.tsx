import type { Problem } from "@/api/problem";
import { Button, buttonClass } from "./button";
import { Logo } from "./logo";
import { Spinner } from "./spinner";

export function FullPageSpinner() {
  return (
    <div className="grid min-h-[60dvh] place-items-center">
      <Spinner />
    </div>
  );
}

export function FullPageProblem({ problem, onRetry }: { problem: Problem; onRetry: () => void }) {
  return (
    <main className="mx-auto grid min-h-[70dvh] max-w-md content-center gap-4 p-6">
      <Logo />
      <h1 className="font-bold text-2xl">This page could not be shown</h1>
      <p>{problem.message}</p>
      {problem.remedy && <p className="text-muted">{problem.remedy}</p>}
      <div className="flex gap-3">
        <Button variant="primary" onClick={onRetry}>
          Try again
        </Button>
        <a href="/" className={buttonClass()}>
          To the start
        </a>
      </div>
      {problem.requestId && <p className="text-muted text-xs">Request {problem.requestId}</p>}
    </main>
  );
}

export function PageNotFound() {
  return (
    <main className="mx-auto grid min-h-[70dvh] max-w-md content-center gap-4 p-6">
      <title>Nothing here · Echo</title>
      <h1 className="font-bold text-2xl">There is nothing here</h1>
      <p className="text-muted">
        The address may be mistyped, or what was here has been deleted or is not shared with you.
      </p>
      <a href="/" className={buttonClass({ variant: "primary" })}>
        To the start
      </a>
    </main>
  );
}
