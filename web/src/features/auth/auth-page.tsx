import type { ReactNode } from "react";
import { Logo } from "@/components/logo";

/** The frame of the pages for people who are not signed in. */
export function AuthPage({
  title,
  children,
  footer,
}: {
  title: string;
  children: ReactNode;
  footer?: ReactNode;
}) {
  return (
    <div className="grid min-h-dvh lg:grid-cols-[minmax(0,1fr)_minmax(0,1.1fr)]">
      <main className="mx-auto grid w-full max-w-md content-center gap-6 px-6 py-12">
        <Logo />
        <h1 className="font-bold text-3xl tracking-tight">{title}</h1>
        {children}
        {footer && <p className="text-muted text-sm">{footer}</p>}
      </main>
      <aside className="relative hidden overflow-hidden bg-[#b8321a] text-[#fff8f3] lg:flex lg:items-end">
        <svg
          viewBox="0 0 600 600"
          preserveAspectRatio="xMidYMid slice"
          className="absolute inset-0 size-full opacity-20"
          aria-hidden="true"
        >
          <g fill="none" stroke="currentColor" strokeWidth="14" strokeLinecap="round">
            {[70, 130, 190, 250, 310, 370, 430, 490].map((radius) => (
              <path
                key={radius}
                d={`M${120 + radius * 0.71} ${300 - radius * 0.71}a${radius} ${radius} 0 0 1 0 ${radius * 1.42}`}
              />
            ))}
          </g>
          <circle cx="120" cy="300" r="26" fill="currentColor" />
        </svg>
        <p className="relative max-w-lg p-12 font-bold text-4xl leading-tight tracking-tight">
          Drop a video. Watch it seconds later. Send it everywhere.
        </p>
      </aside>
    </div>
  );
}
