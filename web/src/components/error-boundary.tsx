import { Component, type ReactNode } from "react";
import { asProblem, type Problem } from "@/api/problem";
import { Button } from "./button";
import { ProblemNote } from "./problem-note";

/** Keeps the rest of a page when one part of it cannot be shown. */
export class ErrorBoundary extends Component<{ children: ReactNode }, { problem: Problem | null }> {
  override state: { problem: Problem | null } = { problem: null };

  static getDerivedStateFromError(error: unknown): { problem: Problem } {
    return { problem: asProblem(error) };
  }

  override render(): ReactNode {
    const { problem } = this.state;
    if (!problem) return this.props.children;
    return (
      <ProblemNote problem={problem}>
        <Button size="sm" onClick={() => window.location.reload()}>
          Load the page again
        </Button>
      </ProblemNote>
    );
  }
}
