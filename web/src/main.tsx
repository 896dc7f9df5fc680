import "./styles.css";
import { QueryClientProvider } from "@tanstack/react-query";
import { createRouter, RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { loadInstance } from "@/api/instance";
import { asProblem, PART_MISSING } from "@/api/problem";
import { queryClient } from "@/api/query-client";
import { FullPageProblem, FullPageSpinner, PageNotFound } from "@/components/full-page";
import { startSession } from "@/features/auth/session";
import { routeTree } from "./routeTree.gen";

const router = createRouter({
  routeTree,
  context: { queryClient },
  defaultPreload: "intent",
  defaultPreloadStaleTime: 0, // Query decides what is fresh
  defaultPendingComponent: FullPageSpinner,
  defaultErrorComponent: ({ error, reset }) => {
    const problem = asProblem(error);
    // React keeps that an import has failed: only a new page tries it again.
    const retry = problem.code === PART_MISSING ? () => window.location.reload() : reset;
    return <FullPageProblem problem={problem} onRetry={retry} />;
  },
  defaultNotFoundComponent: PageNotFound,
  scrollRestoration: true,
});

// Where people go is told to those who do not see it, and the keyboard goes on from there.
router.subscribe("onResolved", ({ fromLocation, pathChanged }) => {
  if (fromLocation && pathChanged) document.getElementById("content")?.focus({ preventScroll: true });
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

const container = document.getElementById("root");
if (!container) throw new Error("index.html has no #root");
const root = createRoot(container);

async function start(): Promise<void> {
  try {
    startSession(await loadInstance());
    root.render(
      <StrictMode>
        <QueryClientProvider client={queryClient}>
          <RouterProvider router={router} />
        </QueryClientProvider>
      </StrictMode>,
    );
  } catch (error) {
    root.render(<FullPageProblem problem={asProblem(error)} onRetry={() => window.location.reload()} />);
  }
}

void start();
